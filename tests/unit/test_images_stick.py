"""Which device the install medium may be written to, from what lsblk shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from images.blockdevices import BlockDevice, parse_lsblk
from images.errors import StickError
from images.stick import choose, description

ISO = 400 << 20
GIB = 1 << 30


def node(path: str, numbers: str, type_: str, size: int, *children: dict[str, Any], **more: object) -> dict[str, Any]:
    """A device as lsblk prints it with COLUMNS."""
    empty = dict.fromkeys(("tran", "model", "serial", "pttype", "ptuuid", "fstype", "label"))
    fixed = {"path": path, "maj:min": numbers, "type": type_, "size": size, "ro": False, "rm": False}
    return {**fixed, **empty, "mountpoints": [None], **more, **({"children": [*children]} if children else {})}


def parsed(*nodes: dict[str, Any]) -> tuple[BlockDevice, ...]:
    return parse_lsblk(json.dumps({"blockdevices": nodes}))


def stick(*children: dict[str, Any], size: int = 28 * GIB, **more: object) -> dict[str, Any]:
    about = {"tran": "usb", "model": "Ultra Fit", "serial": "4C530001", "rm": True}
    return node("/dev/sdb", "8:16", "disk", size, *children, **{**about, **more})


def stick_partition(*children: dict[str, Any], **more: object) -> dict[str, Any]:
    return node("/dev/sdb1", "8:17", "part", 27 * GIB, *children, **more)


INTERNAL = node(
    *("/dev/nvme0n1", "259:0", "disk", 900 * GIB),
    node("/dev/nvme0n1p1", "259:1", "part", 512 << 20, fstype="vfat", mountpoints=["/boot/efi"]),
    node("/dev/nvme0n1p2", "259:2", "part", 800 * GIB, fstype="ext4", mountpoints=["/"]),
    tran="nvme",
)


def chosen(*nodes: dict[str, Any], numbers: str = "8:16", force_fixed: bool = False) -> BlockDevice:
    return choose(parsed(*nodes), numbers, "/dev/it", iso_size=ISO, force_fixed=force_fixed)


def refusal(*nodes: dict[str, Any], numbers: str = "8:16", force_fixed: bool = False) -> str:
    with pytest.raises(StickError) as e:
        chosen(*nodes, numbers=numbers, force_fixed=force_fixed)
    return str(e.value)


def test_a_free_usb_stick_is_taken_whatever_is_on_it() -> None:
    on_it = stick_partition(fstype="vfat", label="HOLIDAY")
    assert chosen(INTERNAL, stick(on_it, pttype="dos")).path == "/dev/sdb"


def test_a_card_in_a_reader_that_says_removable_is_taken() -> None:
    assert chosen(INTERNAL, stick(tran=None)).path == "/dev/sdb"


def test_what_will_be_overwritten_is_shown_down_to_each_file_system() -> None:
    on_it = stick_partition(fstype="vfat", label="HOLIDAY")
    assert description(chosen(stick(on_it, pttype="dos"))).splitlines() == [
        "/dev/sdb (Ultra Fit, serial 4C530001, 28.0G) holds:",
        "  /dev/sdb 28.0G partition table dos",
        "  /dev/sdb1 27.0G vfat 'HOLIDAY'",
    ]


def test_a_blank_one_is_called_blank() -> None:
    assert description(chosen(stick())).endswith("holds nothing that is known")


def test_a_partition_is_refused_and_its_disk_named() -> None:
    text = refusal(stick(stick_partition()), numbers="8:17")
    assert "a partition of /dev/sdb" in text
    assert "--device /dev/sdb" in text


def test_a_volume_on_a_disk_is_no_disk() -> None:
    volume = node("/dev/mapper/data-x", "253:0", "lvm", 4 * GIB)
    assert "is no disk, but lvm on /dev/sdb" in refusal(stick(stick_partition(volume)), numbers="253:0")


@pytest.mark.parametrize("nodes", [[stick(size=0)], [INTERNAL]])
def test_a_reader_without_a_card_is_refused(nodes: list[dict[str, Any]]) -> None:
    assert "/dev/it has no medium in it" in refusal(*nodes)


def test_one_that_is_mounted_is_refused_with_the_place() -> None:
    text = refusal(stick(stick_partition(fstype="vfat", mountpoints=[None, "/media/me/HOLIDAY"])))
    assert "/dev/sdb1 on /dev/sdb" in text
    assert "mounted at /media/me/HOLIDAY" in text


def test_one_that_is_swap_is_refused() -> None:
    text = refusal(stick(stick_partition(fstype="swap", mountpoints=["[SWAP]"])))
    assert "is swap space in use" in text
    assert "swapoff /dev/sdb1" in text


@pytest.mark.parametrize("kind", ["crypt", "lvm", "raid1"])
def test_one_that_something_is_made_of_is_refused_though_nothing_is_mounted(kind: str) -> None:
    made = node("/dev/mapper/it", "253:0", kind, 4 * GIB)
    text = refusal(stick(stick_partition(made)))
    assert f"/dev/mapper/it ({kind}) is made of it" in text


def under(*kinds: str, place: str) -> dict[str, Any]:
    """A file system mounted there, on such devices one in the other."""
    inner = node(f"/dev/dm-{len(kinds)}", f"253:{len(kinds)}", kinds[0], 4 * GIB, mountpoints=[None])
    if len(kinds) == 1:
        return {**inner, "fstype": "ext4", "mountpoints": [place]}
    return {**inner, "children": [under(*kinds[1:], place=place)]}


@pytest.mark.parametrize("place", ["/", "/boot", "/usr", "/home", "/boot/efi"])
@pytest.mark.parametrize("kinds", [("part",), ("part", "lvm"), ("part", "crypt", "lvm"), ("raid1",), ("raid1", "lvm")])
def test_a_usb_device_that_is_this_machines_own_disk_is_refused_even_by_force(
    place: str, kinds: tuple[str, ...]
) -> None:
    text = refusal(stick(under(*kinds, place=place)), force_fixed=True)
    assert "carries the running system" in text
    assert place in text


def test_the_own_disk_is_recognised_where_something_else_of_it_is_mounted_first(captured: Path) -> None:
    devices = parse_lsblk((captured / "lsblk-build-host.json").read_text())
    with pytest.raises(StickError, match="carries the running system: / lies on /dev/vda"):
        choose(devices, "254:0", "/dev/vda", iso_size=ISO, force_fixed=True)


def test_the_own_disk_is_told_from_a_stick_that_is_mounted_too() -> None:
    both = stick(stick_partition(mountpoints=["/media/x"]), under("part", place="/"))
    assert "carries the running system" in refusal(both)


def test_the_hint_names_the_sticks_that_would_do() -> None:
    text = refusal(INTERNAL, stick(), numbers="259:0", force_fixed=True)
    assert "free sticks here: /dev/sdb (Ultra Fit, serial 4C530001, 28.0G)" in text


def test_a_fixed_disk_is_refused_unless_forced() -> None:
    fixed = stick(tran="sata", rm=False)
    assert "neither removable nor on USB" in refusal(fixed)
    assert "--force-fixed" in refusal(fixed)
    assert chosen(fixed, force_fixed=True).path == "/dev/sdb"


def test_one_with_its_write_protection_on_is_refused() -> None:
    assert "is read-only" in refusal(stick(ro=True))


def test_one_that_is_a_byte_too_small_is_refused_and_one_of_the_size_is_taken() -> None:
    text = refusal(stick(size=ISO - 1))
    assert "too small" in text
    assert str(ISO) in text
    assert chosen(stick(size=ISO)).size == ISO


def test_what_a_build_host_printed_is_read(captured: Path) -> None:
    devices = parse_lsblk((captured / "lsblk-build-host.json").read_text())
    assert [(d.path, d.type, d.size, [place for _, place in d.mounts()]) for d in devices] == [
        ("/dev/loop0", "loop", 64 << 20, ["/mnt"]),
        ("/dev/zram0", "disk", 0, []),
        ("/dev/vda", "disk", 256 * GIB, ["/run/netns", "/"]),
    ]


@pytest.mark.parametrize("text", ["", "{}", '{"blockdevices": [{"path": "/dev/sda"}]}'])
def test_what_is_not_lsblks_json_is_said_to_be_so(text: str) -> None:
    with pytest.raises(StickError, match="lsblk"):
        parse_lsblk(text)
