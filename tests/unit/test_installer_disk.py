"""Which disk the dom0 is installed on, and that none with anything on it is written to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from config.machine import Machine
from config.model import DiskRule, Match
from firstboot import observe
from firstboot.errors import SystemDiskError
from firstboot.plan.sighting import as_yaml
from firstboot.plan.system_disk import Decision, Install, InstallAgain, admission, large_enough, system_disks
from firstboot.probe.disks import BlockDevice, Contents, Edges, Signature, parse_edges, parse_wipefs
from firstboot.probe.marker import BLOCK, Marker, parse_marker
from tests.unit.test_firstboot_edges import read_od

GIB = 1 << 30
DISK = BlockDevice("/dev/vda", "disk", 8 * GIB, serial="system-xen1")
DATA = BlockDevice("/dev/vdb", "disk", 4 * GIB, serial="data-xen1")
RULE = DiskRule(serial="system-*")
MINE = Marker("xenpair", "xen1", "k" * 32)
MARKED = Contents(edges=Edges(data=(0,)))
GPT = Signature("vda", "gpt", 512)
BACKUP = Signature("vda", "gpt", DISK.size - 512)


def decide(
    contents: Contents, found: Marker | None = None, *, disk: BlockDevice = DISK, wipe: bool = False
) -> Decision:
    return admission(disk, contents, found, replace(MINE, key="another"), wipe=wipe)


def test_exactly_one_disk_has_to_fit() -> None:
    assert system_disks(RULE, [DISK, DATA]) == (DISK,)
    with pytest.raises(SystemDiskError, match=r"fits no disk; .* one of: /dev/vdb \(4G, serial data-xen1"):
        system_disks(RULE, [DATA])
    with pytest.raises(SystemDiskError, match=r"fits 2 disks \(/dev/vda .*; /dev/vdc"):
        system_disks(RULE, [DISK, DATA, replace(DISK, path="/dev/vdc", serial="system-2")])


def stick(*labels: str) -> BlockDevice:
    return replace(DISK, children=tuple(BlockDevice("/dev/vda1", "part", GIB, label=label) for label in labels))


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (replace(DISK, label="XENPAIR_INSTALL"), "carries the label XENPAIR_INSTALL; that is the install medium"),
        (stick("ESP", "XENPAIR_INSTALL"), "that is the install medium"),
        (stick("XENPAIRSEED"), "that is the seed medium"),
        (replace(DISK, mountpoints=("/run/xenpair/medium",)), "in use: /run/xenpair/medium"),
        (replace(DISK, removable=True, transport="usb"), "removable USB medium"),
        (replace(DISK, read_only=True), "read-only"),
        (replace(DISK, sector=4096), "logical sectors of 4096 bytes"),
    ],
)
def test_what_can_never_be_the_system_disk(disk: BlockDevice, reason: str) -> None:
    with pytest.raises(SystemDiskError, match=reason):
        system_disks(RULE, [disk, DATA])


def test_a_disk_that_is_too_small_is_refused_with_both_sizes() -> None:
    large_enough(DISK, 8 * GIB)
    with pytest.raises(SystemDiskError, match="has 8G, and the image needs 8388612K"):
        large_enough(DISK, 8 * GIB + 4096)


def test_a_blank_disk_is_taken() -> None:
    assert decide(Contents()) == Install(DISK)


@pytest.mark.parametrize(
    ("capture", "kind"),
    [
        ("wipefs-pv.json", "LVM2_member"),
        ("wipefs-md-0.90.json", "linux_raid_member"),
        ("wipefs-md-1.0.json", "linux_raid_member"),
        ("wipefs-md-1.2.json", "linux_raid_member"),
        ("wipefs-drbd.json", "drbd"),
        ("wipefs-gpt.json", "gpt"),
        ("wipefs-dos.json", "dos"),
        ("wipefs-ext4.json", "ext4"),
    ],
)
@pytest.mark.parametrize("found", [None, MINE])
def test_an_old_disk_is_refused_and_the_config_may_allow_it(
    captured: Path, capture: str, kind: str, found: Marker | None
) -> None:
    contents = Contents(parse_wipefs((captured / capture).read_text()))
    with pytest.raises(SystemDiskError, match=rf"\(serial system-xen1\) is not blank: .*{kind} at byte") as e:
        decide(contents, found)
    assert 'disks: {system: {serial: "system-xen1", wipe: true}}' in e.value.hint
    assert "wipefs --all /dev/vda; blkdiscard --zeroout" in e.value.hint
    allowed = decide(contents, found, wipe=True)
    assert isinstance(allowed, Install)
    assert any(words.startswith(f"{kind} at byte") for words in allowed.found)


def test_metadata_inside_a_partition_that_is_gone_is_seen_too(captured: Path) -> None:
    image = read_od(captured / "od-old-pair.txt")
    image[: 1 << 20] = bytes(1 << 20)
    edges = parse_edges("vda", {0: bytes(image[: 8 << 20]), len(image) - (8 << 20): bytes(image[-(8 << 20) :])})
    with pytest.raises(SystemDiskError, match=r"LVM2_member at byte .*, drbd at byte .* left by what is gone"):
        decide(Contents(edges=edges), disk=replace(DISK, size=len(image)))


def test_a_finished_system_is_never_installed_over_by_itself() -> None:
    parts = tuple(BlockDevice(f"/dev/vda{n}", "part", GIB, partlabel=name) for n, name in ((1, "esp"), (2, "root")))
    with pytest.raises(SystemDiskError, match=r"gpt at byte 512 of vda, .*partition /dev/vda2 \(root\)"):
        decide(Contents((GPT, BACKUP), Edges(data=(0, 4096))), disk=replace(DISK, children=parts))


@pytest.mark.parametrize("signatures", [(), (BACKUP,)])
def test_what_an_interrupted_installation_left_is_taken_again(signatures: tuple[Signature, ...]) -> None:
    assert decide(replace(MARKED, signatures=signatures), MINE) == InstallAgain(DISK)


@pytest.mark.parametrize(
    ("contents", "disk"),
    [
        (replace(MARKED, signatures=(GPT,)), DISK),
        (replace(MARKED, signatures=(Signature("vda", "ext4", 1080),)), DISK),
        (MARKED, replace(DISK, children=(BlockDevice("/dev/vda1", "part", GIB),))),
    ],
)
def test_a_marked_disk_that_was_used_for_something_else_since_is_refused(contents: Contents, disk: BlockDevice) -> None:
    with pytest.raises(SystemDiskError, match="the beginning of an installation of xen1 of the cluster xenpair, "):
        decide(contents, MINE, disk=disk)


@pytest.mark.parametrize("found", [replace(MINE, node="xen2"), replace(MINE, cluster="prod")])
def test_the_marker_of_another_node_or_cluster_allows_nothing(found: Marker) -> None:
    with pytest.raises(SystemDiskError, match=f"installation of {found.node} of the cluster {found.cluster}"):
        decide(MARKED, found)


@pytest.mark.parametrize("found", [None, MINE])
@pytest.mark.parametrize("signatures", [(), (GPT,)])
def test_a_disk_that_something_uses_is_left_to_it(found: Marker | None, signatures: tuple[Signature, ...]) -> None:
    contents = Contents(signatures, Edges(data=(0,) if found else ()), held=True)
    with pytest.raises(SystemDiskError, match="something uses it: a mount, RAID or LVM on it"):
        decide(contents, found, wipe=True)


def test_a_marker_reads_what_it_wrote() -> None:
    assert len(MINE.to_block()) == BLOCK
    assert parse_marker(MINE.to_block()) == MINE


@pytest.mark.parametrize("at", [0, 60, 439, 446, 510, 512, BLOCK - 1])
def test_a_block_with_anything_else_in_it_is_no_marker(at: int) -> None:
    block = bytearray(MINE.to_block())
    block[at] ^= 0xFF
    assert parse_marker(bytes(block)) is None


def test_the_longest_names_fit_into_a_marker() -> None:
    Marker("c" * 63, "n" * 63, "k" * 64).to_block()


def test_a_marker_is_nothing_that_boots_or_that_the_tools_know(tmp_path: Path, real_programs: None) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(MINE.to_block().ljust(1 << 20, b"\0"))
    assert MINE.to_block()[510:512] == b"\0\0"
    assert observe.signatures(disk) == ()


def test_what_was_seen_can_be_copied_into_the_config() -> None:
    machine = Machine({"eth0": "52:54:00:10:32:01", "eth1": "52:54:00:13:20:01"}, serial="CZ: 1", uuid="4c4c-1")
    seen = as_yaml(machine, [DISK, replace(DATA, serial="", wwn="0x5000", model="QEMU HARDDISK")])
    match = yaml.safe_load(seen)["nodes"][0]["match"]
    assert Match.model_validate(match).mac == "52:54:00:10:32:01"
    uncommented = [line.partition("# or ")[2] for line in seen.splitlines() if "# or match" in line]
    assert [yaml.safe_load(line)["match"] for line in uncommented] == [
        {"mac": "52:54:00:13:20:01"},
        {"serial": "CZ: 1"},
        {"uuid": "4c4c-1"},
    ]
    assert '# system or backing: {serial: "system-xen1"}  # /dev/vda, 8G, no model' in seen
    assert '# system or backing: {wwn: "0x5000"}  # /dev/vdb, 4G, QEMU HARDDISK' in seen
