"""xen-tools: what it is told, and how its word is taken. What it printed was captured from xen-tools 4.9.2."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.door import Output
from firstboot.errors import GuestError
from firstboot.guests import rootfs, xen_tools
from firstboot.guests.definition import Definition
from firstboot.places import Places

WEB = Definition("web02", "xen1", 256 << 20, 1, "pvh", "xenbr0", "00:16:3e:00:00:02")

WRONG_OPTION = "Couldn't find a useful entry in the sources.list files of the Dom0. Tried:\n  /etc/apt/sources.list\n"
GOOD = "Installation method: debootstrap\nDone\n\nRunning hooks\nDone\n\nInstallation Summary\n---------------------\n"

INTERFACES = """\
# The loopback network interface
auto lo
iface lo inet loopback

# The primary network interface
auto eth0
iface eth0 inet dhcp
"""
"""Shortened."""


def install(monkeypatch: pytest.MonkeyPatch, output: Output) -> list[str]:
    ran: list[list[str]] = []

    def fake(argv: list[str], *, env: dict[str, str], **_: object) -> Output:
        assert "TMPDIR" not in env, "the guest's packages would look for that directory in the guest"
        ran.append(argv)
        return output

    monkeypatch.setattr(xen_tools, "run", fake)
    monkeypatch.setenv("TMPDIR", "/tmp/not-in-the-guest")
    xen_tools.install(WEB, Path("/dev/data/web02"), "trixie", "http://mirror.example/debian", Path("/tmp/own"))
    return ran[0]


def test_no_password_is_made_nothing_is_formatted_and_what_is_fetched_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = install(monkeypatch, Output(0, GOOD, ""))
    assert {"--genpass=0", "--nopasswd", "--dontformat", "--nohosts", "--image-dev=/dev/data/web02"} <= set(argv)
    assert f"--keyring={xen_tools.KEYRING}" in argv
    assert "--output=/tmp" in argv
    assert argv[argv.index(xen_tools.PROGRAM) - 1] == "/tmp/own"


def test_an_end_without_a_summary_is_a_failure_whatever_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GuestError, match=r"could not install web02: .*Option role requires an argument") as caught:
        install(monkeypatch, Output(0, WRONG_OPTION, "Option role requires an argument\n"))
    assert "/var/log/xen-tools/web02.log" in caught.value.hint


STATUS = """\
Package: base-files
Status: install ok installed
Version: 13.8

Package: openssh-server
Status: install ok half-configured
Version: 1:10.0p1-7

Package: gone
Status: deinstall ok config-files
"""


def test_a_system_with_a_package_that_is_not_configured_is_no_guest(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / xen_tools.STATUS).write_text(STATUS)
    with (
        rootfs.Tree(tmp_path) as tree,
        pytest.raises(GuestError, match="installed is not whole: openssh-server is half-configured"),
    ):
        xen_tools.prepare(tree)


def test_the_mirror_is_the_nodes_own(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="no mirror"):
        xen_tools.mirror(Places(tmp_path))
    sources = tmp_path / xen_tools.SOURCES
    sources.parent.mkdir(parents=True)
    sources.write_text("Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n")
    assert xen_tools.mirror(Places(tmp_path)) == "http://mirror.example/debian"


def test_one_network_card_is_configured_once_and_the_guest_can_boot_its_own_kernel(tmp_path: Path) -> None:
    for directory in ("etc/network", "usr", "boot/grub"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / rootfs.INTERFACES).write_text(INTERFACES)
    with rootfs.Tree(tmp_path) as tree:
        xen_tools.prepare(tree)
        rootfs.furnish(tree, WEB, "")
    said = (tmp_path / rootfs.INTERFACES).read_text()
    assert "eth0" not in said
    assert said.count("source ") == 1
    assert "iface xenpair inet dhcp" in (tmp_path / "etc/network/interfaces.d/xenpair").read_text()
    assert "root=/dev/xvda" in (tmp_path / "boot/grub/grub.cfg").read_text()
