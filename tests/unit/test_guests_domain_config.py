"""What xl is told of a guest."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

import pytest

from firstboot.errors import GuestError
from firstboot.guests.definition import Definition
from firstboot.guests.domain_config import domain_uuid, quoted, xl_config

WEB = Definition("web01", "xen1", 512 << 20, 2, "pvh", "xenbr0", "00:16:3e:00:00:01")
STATIC = replace(WEB, address="192.168.132.50/24", gateway="192.168.132.254")


def settings(definition: Definition) -> dict[str, str]:
    lines = xl_config(definition, "data", "6.12.1-amd64").splitlines()
    return {key: value for key, _, value in (line.partition(" = ") for line in lines)}


def test_a_guest_is_its_volume_its_card_and_dom0s_kernel() -> None:
    assert settings(WEB) == {
        "name": '"web01"',
        "uuid": f'"{domain_uuid("web01")}"',
        "type": '"pvh"',
        "memory": "512",
        "vcpus": "2",
        "disk": '[ "format=raw, vdev=xvda, access=w, backendtype=phy, target=/dev/data/web01" ]',
        "vif": '[ "mac=00:16:3e:00:00:01, bridge=xenbr0" ]',
        "kernel": '"/boot/vmlinuz-6.12.1-amd64"',
        "ramdisk": '"/boot/initrd.img-6.12.1-amd64"',
        "cmdline": '"root=/dev/xvda ro console=hvc0"',
        "on_poweroff": '"preserve"',
        "on_reboot": '"preserve"',
        "on_crash": '"preserve"',
        "on_watchdog": '"preserve"',
        "on_soft_reset": '"preserve"',
    }


def test_the_uuid_stays_and_is_the_guests_own() -> None:
    assert domain_uuid("web01") == domain_uuid("web01")
    assert domain_uuid("web01") != domain_uuid("web02")


def test_memory_is_rounded_up_to_whole_mib() -> None:
    assert settings(replace(WEB, memory=(512 << 20) + 1))["memory"] == "513"


def test_a_static_address_is_told_to_the_kernel() -> None:
    line = '"root=/dev/xvda ro console=hvc0 ip=192.168.132.50::192.168.132.254:255.255.255.0:web01:eth0:off"'
    assert settings(STATIC)["cmdline"] == line
    assert "ip=192.168.132.50:::255.255.255.0:web01:eth0:off" in settings(replace(STATIC, gateway=""))["cmdline"]


def test_further_words_come_last_on_the_kernels_line() -> None:
    assert settings(replace(WEB, arguments='quiet a="b c"'))["cmdline"].endswith(r'console=hvc0 quiet a=\"b c\""')


def test_a_kernel_of_its_own_does_not_get_dom0s_ramdisk() -> None:
    own = settings(replace(WEB, kernel="/var/lib/xenpair/files/vmlinuz"))
    assert own["kernel"] == '"/var/lib/xenpair/files/vmlinuz"'
    assert "ramdisk" not in own
    assert own["cmdline"] == '"root=/dev/xvda ro console=hvc0"'


def test_a_ramdisk_of_its_own_goes_with_either_kernel() -> None:
    ramdisk = "/var/lib/xenpair/files/initrd"
    assert settings(replace(WEB, ramdisk=ramdisk))["kernel"] == '"/boot/vmlinuz-6.12.1-amd64"'
    assert settings(replace(WEB, ramdisk=ramdisk, kernel="/k"))["ramdisk"] == f'"{ramdisk}"'


@pytest.mark.parametrize(("kind", "grub"), [("pv", "grub-x86_64-xen.bin"), ("pvh", "grub-i386-xen_pvh.bin")])
def test_a_guest_that_boots_itself_gets_a_grub_and_nothing_else(kind: Literal["pv", "pvh"], grub: str) -> None:
    own = settings(replace(STATIC, kind=kind, boot="guest"))
    assert own["kernel"] == f'"/usr/lib/grub-xen/{grub}"'
    assert {"ramdisk", "cmdline"}.isdisjoint(own)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("native", '"native"'),
        ("256", '"256"'),
        ("", '""'),
        ('say "hi" \\', '"say \\"hi\\" \\\\"'),
        ('[ "2", "3-8,^5" ]', '[ "2", "3-8,^5" ]'),
        ("[1, 0x2]", "[1, 0x2]"),
        ("[]", "[]"),
        ("['a', 'b',]", "['a', 'b',]"),
        # What only begins and ends like a list is a text.
        ('["a"]; name="b"; x=["c"]', r'"[\"a\"]; name=\"b\"; x=[\"c\"]"'),
        ("[a]", '"[a]"'),
    ],
)
def test_a_further_setting_is_a_text_or_a_list(text: str, written: str) -> None:
    assert settings(replace(WEB, options=(("cpus", text),)))["cpus"] == written


@pytest.mark.parametrize("key", ["name", "disk", "on_reboot", "extra", "root", "maxmem", "bootloader", "ramdisk"])
def test_a_further_setting_takes_none_of_ours_back(key: str) -> None:
    with pytest.raises(GuestError, match=key):
        settings(replace(WEB, options=((key, "x"),)))


@pytest.mark.parametrize("key", ["Cpus", "_x", "9p", "a b", 'a = "b"\nc', ""])
def test_what_is_no_setting_is_refused(key: str) -> None:
    with pytest.raises(GuestError):
        settings(replace(WEB, options=((key, "x"),)))


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "[ 1,\n 2 ]", "\x1b"])
def test_a_control_character_is_refused_everywhere(text: str) -> None:
    with pytest.raises(GuestError):
        settings(replace(WEB, options=(("cpus", text),)))
    with pytest.raises(GuestError):
        settings(replace(WEB, arguments=text))


@pytest.mark.parametrize("text", ["plain", 'a"b', "a\\", '\\"', "a'b", "ü", "a;b # c", '"'])
def test_xl_reads_back_what_was_quoted(text: str) -> None:
    # The text token of libxlu_cfg_l.l, and what xlu__cfgl_dequote makes of it.
    token = quoted(text)
    assert re.fullmatch(r'"([^"\\\n]|\\.)*"', token)
    assert re.sub(r"\\(.)", r"\1", token[1:-1]) == text
