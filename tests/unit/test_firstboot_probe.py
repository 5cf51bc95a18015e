"""Parsers, on what the real tools printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstboot.errors import ProbeError
from firstboot.probe.disks import Signature, parse_lsblk, parse_wipefs
from firstboot.probe.drbd import UNCONFIGURED, DrbdState, parse_dump_md, parse_proc_drbd
from firstboot.probe.heartbeat import parse_node_status
from firstboot.probe.lvm import parse_vgs
from firstboot.probe.xen import parse_xl_info, parse_xl_list


def test_wipefs_names_each_signature(captured: Path) -> None:
    found = parse_wipefs((captured / "wipefs-gpt.json").read_text())
    assert found == (
        Signature("vda", "gpt", 512),
        Signature("vda", "gpt", 0xFFFFFE00),
        Signature("vda", "PMBR", 510),
    )


def test_wipefs_says_nothing_of_a_blank_disk() -> None:
    assert parse_wipefs("") == ()


def test_fresh_metadata_is_known_by_its_uuid(captured: Path) -> None:
    text = (captured / "drbd-dump-md-fresh.txt").read_text()
    assert parse_dump_md(text).fresh
    assert not parse_dump_md(text.replace("0x0000000000000004", "0x6A0B8F2C1D3E4F50")).fresh


@pytest.mark.parametrize("text", ["", "No valid meta data found\n", 'version "v08";\n', "uuid {"])
def test_what_is_no_dump_is_not_taken_for_fresh(text: str) -> None:
    with pytest.raises(ProbeError):
        parse_dump_md(text)


@pytest.mark.parametrize("text", ["", "version: 9.2.11 (api:2/proto:86-122)\n", "cs:Connected"])
def test_another_drbd_is_not_read_as_8_4(text: str) -> None:
    with pytest.raises(ProbeError):
        parse_proc_drbd(text)


def test_a_loaded_module_without_a_device_is_unconfigured(captured: Path) -> None:
    assert parse_proc_drbd((captured / "proc-drbd-empty.txt").read_text()) == UNCONFIGURED


def test_a_starting_device_is_standalone_and_inconsistent(captured: Path) -> None:
    state = parse_proc_drbd((captured / "proc-drbd-standalone.txt").read_text())
    assert state == DrbdState("StandAlone", "Secondary", "Unknown", "Inconsistent", "DUnknown", out_of_sync=4192092)


@pytest.mark.parametrize("parser", [parse_lsblk, parse_vgs, parse_xl_list])
@pytest.mark.parametrize("text", ["", "{}", "[{}]", '{"report": []}', "null", "error: no\n"])
def test_output_that_is_not_understood_is_not_acted_on(parser: object, text: str) -> None:
    with pytest.raises(ProbeError):
        parser(text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("hbstatus", "peer", "expected"),
    [
        ("Heartbeat is stopped on this machine.\n", "", "stopped"),
        ("Heartbeat is running on this machine.\n", "active\n", "up"),
        ("Heartbeat is running on this machine.\n", "dead\n", "alone"),
        ("Heartbeat is running on this machine.\n", "init\n", "starting"),
        ("Heartbeat is running on this machine.\n", "up\n", "starting"),
        ("Heartbeat is running on this machine.\n", "", "starting"),
        ("", "", "stopped"),
    ],
)
def test_heartbeats_words(hbstatus: str, peer: str, expected: str) -> None:
    assert parse_node_status(hbstatus, peer) == expected


def test_xl_info_is_read_as_pairs() -> None:
    info = parse_xl_info("xen_major              : 4\nvirt_caps              : pv hvm hap\nxen_commandline : a:b\n")
    assert info == {"xen_major": "4", "virt_caps": "pv hvm hap", "xen_commandline": "a:b"}


def test_a_formed_device_is_read_whole(captured: Path) -> None:
    state = parse_proc_drbd((captured / "proc-drbd-formed.txt").read_text())
    assert state == DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")
    assert state.both_up_to_date


def test_frozen_io_and_a_running_resync_are_seen(captured: Path) -> None:
    formed = (captured / "proc-drbd-formed.txt").read_text()
    assert parse_proc_drbd(formed.replace("C r-----", "C s-----")).suspended
    resync = formed.replace("cs:Connected", "cs:SyncTarget").replace("oos:0", "oos:2048")
    # linux/drivers/block/drbd/drbd_proc.c, drbd_syncer_progress()
    resync += "\t[=>..................] sync'ed: 12.5% (1792/2048)K\n\tfinish: 0:00:02 speed: 768 (768) K/sec\n"
    state = parse_proc_drbd(resync)
    assert (state.connection, state.out_of_sync, state.synced) == ("SyncTarget", 2048, 12.5)


def test_lsblk_tells_disks_with_what_lies_on_them(captured: Path) -> None:
    devices = {device.path: device for device in parse_lsblk((captured / "lsblk-formed.json").read_text())}
    system, backing = devices["/dev/vda"], devices["/dev/vdb"]
    assert (system.serial, system.in_use, system.type) == ("system-xen1", True, "disk")
    assert (backing.serial, backing.size) == ("data-xen1", 4 << 30)
    assert [(part.partlabel, part.fstype) for part in backing.children] == [("xenpair-r0", "drbd")]
    assert any("/" in device.mountpoints for device in system.walk())


def test_vgs_tells_the_group_its_device_and_its_change_counter(captured: Path) -> None:
    (group,) = parse_vgs((captured / "vgs-formed.json").read_text())
    assert (group.name, group.physical_volume) == ("data", "/dev/drbd0")
    assert group.seqno >= 1
    assert 0 < group.free <= group.size


def test_a_physical_volume_has_a_signature(captured: Path) -> None:
    assert [s.kind for s in parse_wipefs((captured / "wipefs-pv.json").read_text())] == ["LVM2_member"]


def test_dom0_alone_is_a_list_of_one(captured: Path) -> None:
    assert [(d.name, d.domid) for d in parse_xl_list((captured / "xl-list-v.txt").read_text())] == [("Domain-0", 0)]
