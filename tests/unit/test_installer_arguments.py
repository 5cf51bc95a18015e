"""What the installer is told on the kernel's command line."""

from __future__ import annotations

import pytest

from firstboot.errors import InstallError
from firstboot.installer.arguments import Arguments, FromMedium, FromServer, parse_arguments

PIN = "ab" * 32
SERVER = f"xenpair.server=https://10.0.0.9:8443 xenpair.pin={PIN} xenpair.image=http://10.0.0.9:8080/image"
IP = "xenpair.ip=10.0.0.7/255.255.255.0,10.0.0.1,52-54-00-10-32-0A"


def test_a_medium_is_known_by_its_label() -> None:
    found = parse_arguments("BOOT_IMAGE=/boot/vmlinuz boot=xenpair console=tty0 xenpair.medium=XENPAIR_INSTALL\n")
    assert found == Arguments(FromMedium("XENPAIR_INSTALL"))


def test_a_server_comes_with_all_that_reaching_it_takes() -> None:
    found = parse_arguments(f"boot=xenpair {SERVER} {IP} xenpair.bench")
    origin = FromServer(
        "https://10.0.0.9:8443", PIN, "http://10.0.0.9:8080/image", "10.0.0.7/24", "10.0.0.1", "52:54:00:10:32:0a"
    )
    assert found == Arguments(origin, bench=True)


def test_there_may_be_no_gateway() -> None:
    origin = parse_arguments(f"{SERVER} xenpair.ip=10.0.0.7/24,,52:54:00:10:32:01").origin
    assert isinstance(origin, FromServer)
    assert origin.gateway == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("quiet", "neither xenpair.medium= nor xenpair.server="),
        ("xenpair.server=https://a:1 xenpair.pin=ab", r"without xenpair.image=, xenpair.ip="),
        (f"{SERVER.replace(PIN, 'abc')} {IP}", "xenpair.pin=abc .* 64 hexadecimal digits"),
        (f"{SERVER.replace('https', 'http')} {IP}", r"xenpair.server=http://\S+ .* https://ADDRESS:PORT"),
        (f"{SERVER.replace('=http:', '=ftp:')} {IP}", r"xenpair.image=ftp://\S+ .* http://ADDRESS"),
        (f"{SERVER} xenpair.ip=10.0.0.7,52:54:00:10:32:01", "xenpair.ip=.* ADDRESS/NETMASK,GATEWAY,MAC"),
        (f"{SERVER} xenpair.ip=10.0.0.7/33,,52:54:00:10:32:01", "xenpair.ip=.* ADDRESS/NETMASK,GATEWAY,MAC"),
        (f"{SERVER} xenpair.ip=10.0.0.7/24,,52:54", "xenpair.ip=.* MAC address like"),
    ],
)
def test_a_line_that_is_not_understood_is_told(line: str, said: str) -> None:
    with pytest.raises(InstallError, match=said):
        parse_arguments(line)
