"""Which disk goes below DRBD, and that none with anything on it is ever written to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loader import load
from config.model import DiskRule
from firstboot.errors import BackingDiskError
from firstboot.plan import backing
from firstboot.plan.backing import AdoptPartition, Decision, History, MakePartition, UsePartition, WipeDisk
from firstboot.plan.disk_choice import SEED_LABEL, fits
from firstboot.probe.disks import (
    EDGE,
    BlockDevice,
    Contents,
    Edges,
    Signature,
    parse_wipefs,
)
from firstboot.steps import seed

GIB = 1 << 30
SIZE = 4 * GIB
DISK = BlockDevice("/dev/vdb", "disk", SIZE, serial="data-xen1")
SYSTEM = BlockDevice(
    "/dev/vda",
    "disk",
    8 * GIB,
    serial="system-xen1",
    children=(BlockDevice("/dev/vda3", "part", 3 * GIB, fstype="ext4", mountpoints=("/",)),),
)
RULE = DiskRule(serial="data-*")
PARTUUID = "11111111-2222-3333-4444-555555555555"
FRESH = History()
BEGUN = History(serial="data-xen1", partuuid=PARTUUID)
WIPING = replace(BEGUN, wiping=True)
WIPED = replace(WIPING, wiped=True)
GPT = Signature("vdb", "gpt", 512)
TABLE = Contents((GPT, Signature("vdb", "PMBR", 510)), Edges(data=(0, 4096, SIZE - 16384, SIZE - 4096)))
CLUSTER = load(Path(__file__).parents[2] / "config" / "cluster.yaml").cluster
"""The example pair, whose name is xenpair; fixtures do not reach hypothesis."""
OWN = "xenpair-xenpair-r0"
OTHER = "xenpair-prod-r0"


def part(**known: str) -> BlockDevice:
    return BlockDevice("/dev/vdb1", "part", SIZE - (2 << 20), **known)  # type: ignore[arg-type]


def decide(
    disk: BlockDevice, contents: Contents, history: History = FRESH, *, unused: bool = False, wipe: bool = False
) -> Decision:
    return backing.backing_partition(disk, contents, history, CLUSTER, unused=unused, wipe=wipe)


def holding(*children: BlockDevice) -> BlockDevice:
    return replace(DISK, children=children)


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (DiskRule(serial="data-xen1"), True),
        (DiskRule(serial="data-*"), True),
        (DiskRule(serial="DATA-*"), False),
        (DiskRule(wwn="0x5000"), False),
        (DiskRule(model="*"), True),
        (DiskRule(min_size=4 * GIB), True),
        (DiskRule(min_size=4 * GIB + 1), False),
        (DiskRule(max_size=4 * GIB - 1), False),
        (DiskRule(serial="data-*", max_size=2 * GIB), False),
    ],
)
def test_a_rule_fits_only_where_all_of_it_does(rule: DiskRule, matches: bool) -> None:
    assert fits(rule, DISK) is matches


def test_exactly_one_disk_has_to_fit() -> None:
    assert backing.backing_disks(RULE, [SYSTEM, DISK]) == (DISK,)
    with pytest.raises(BackingDiskError, match=r"fits no disk.*/dev/vda \(8G, serial system-xen1.*in use"):
        backing.backing_disks(RULE, [SYSTEM])
    with pytest.raises(BackingDiskError, match=r"fits 2 disks"):
        backing.backing_disks(RULE, [DISK, replace(DISK, path="/dev/vdc", serial="data-2")])


def test_a_disk_in_use_is_never_the_backing_disk() -> None:
    with pytest.raises(BackingDiskError, match="in use: /"):
        backing.backing_disks(DiskRule(serial="system-*"), [SYSTEM, DISK])


def test_a_read_only_disk_is_refused() -> None:
    with pytest.raises(BackingDiskError, match="read-only"):
        backing.backing_disks(RULE, [replace(DISK, read_only=True)])


def test_partitions_and_cd_drives_are_not_disks() -> None:
    with pytest.raises(BackingDiskError, match="no disk at all"):
        backing.backing_disks(RULE, [replace(DISK, type="rom"), replace(DISK, type="loop")])


@pytest.mark.parametrize("label", ["XENPAIRSEED", None])
def test_the_medium_that_the_node_was_installed_from_is_refused(label: str | None) -> None:
    medium = holding(part(label=label)) if label else replace(DISK, removable=True, transport="usb")
    with pytest.raises(BackingDiskError, match=r"seed medium|removable USB medium"):
        backing.backing_disks(RULE, [SYSTEM, medium])


def test_a_disk_in_a_hot_plug_bay_is_a_disk() -> None:
    bay = replace(DISK, removable=True, transport="sata")
    assert backing.backing_disks(RULE, [SYSTEM, bay]) == (bay,)


def test_the_seed_medium_has_one_label() -> None:
    assert SEED_LABEL == seed.SEED_LABEL


def test_a_system_disk_is_known_through_whatever_lies_between() -> None:
    root = BlockDevice("/dev/mapper/vg-root", "lvm", GIB, mountpoints=("/",))
    disk = holding(replace(part(fstype="LVM2_member"), children=(root,)))
    with pytest.raises(BackingDiskError, match=r"in use: /; that is the system disk"):
        backing.backing_disks(RULE, [disk])


def test_a_blank_disk_is_partitioned() -> None:
    assert decide(DISK, Contents()) == MakePartition(DISK)
    assert decide(DISK, Contents(), wipe=True) == MakePartition(DISK)


@pytest.mark.parametrize("kind", ["gpt", "dos", "ext4", "LVM2_member", "linux_raid_member", "swap", "drbd", "vfat"])
def test_a_disk_with_a_signature_is_refused(kind: str) -> None:
    with pytest.raises(BackingDiskError, match=f"not blank: {kind} at byte 1080 of vdb"):
        decide(DISK, Contents((Signature("vdb", kind, 1080),)))


@pytest.mark.parametrize(
    ("captured_as", "found"),
    [
        ("dos", "dos at byte 510"),
        ("ext4", "ext4 at byte 1080"),
        ("swap", "swap at byte 4086"),
        ("drbd", "drbd at byte 67104828"),
        ("pv", "LVM2_member at byte 536"),
        ("md-1.2", "linux_raid_member at byte 4096"),
        ("md-1.0", "linux_raid_member at byte 67100672"),
        ("md-0.90", "linux_raid_member at byte 67043328"),
        ("gpt-backup-only", "gpt at byte 67108352"),
    ],
)
def test_what_wipefs_finds_is_refused_with_its_place(captured: Path, captured_as: str, found: str) -> None:
    signatures = parse_wipefs((captured / f"wipefs-{captured_as}.json").read_text())
    with pytest.raises(BackingDiskError, match=found):
        decide(DISK, Contents(signatures))


def test_a_disk_with_a_partition_is_refused_even_where_no_signature_is_known() -> None:
    with pytest.raises(BackingDiskError, match="partition /dev/vdb1"):
        decide(holding(part()), Contents())


def test_what_is_inside_a_partition_is_named_too() -> None:
    contents = Contents((*TABLE.signatures, Signature("vdb1", "ext4", 1080)))
    with pytest.raises(BackingDiskError, match=r"gpt at byte 512 of vdb,.*ext4 at byte 1080 of vdb1"):
        decide(holding(part(fstype="ext4")), contents)


def test_data_of_no_known_kind_is_refused_and_the_way_through_is_said() -> None:
    with pytest.raises(BackingDiskError, match="data of no known kind, first at byte 40960 of /dev/vdb") as e:
        decide(DISK, Contents(edges=Edges(data=(40960,))))
    assert '{serial: "data-xen1", wipe: true}' in e.value.hint
    assert f"blkdiscard --zeroout --offset {SIZE - EDGE} --length {EDGE} /dev/vdb" in e.value.hint


def test_a_disk_without_a_serial_is_cleared_by_hand_only() -> None:
    with pytest.raises(BackingDiskError) as e:
        decide(replace(DISK, serial=""), Contents((GPT,)))
    assert "wipe: true" not in e.value.hint
    assert "wipefs --all /dev/vdb;" in e.value.hint


def test_our_own_partition_is_used_again() -> None:
    own = part(partuuid=PARTUUID, fstype="drbd")
    for wipe in (False, True):
        for history in (BEGUN, WIPED, replace(BEGUN, done=True), replace(BEGUN, rebuilt=True)):
            assert decide(holding(own), TABLE, history, wipe=wipe) == UsePartition(own)


def test_our_own_half_made_table_is_made_again() -> None:
    assert decide(DISK, TABLE, BEGUN) == MakePartition(DISK)
    assert decide(DISK, TABLE, WIPED, wipe=True) == MakePartition(DISK)


def test_a_table_on_a_disk_whose_wipe_was_cut_short_is_not_ours() -> None:
    assert isinstance(decide(DISK, TABLE, WIPING, wipe=True), WipeDisk)


@pytest.mark.parametrize("foreign", [Signature("vdb", "ext4", 1080), Signature("vdb", "drbd", 1 << 31)])
def test_what_appeared_on_our_half_made_disk_is_refused(foreign: Signature) -> None:
    for wipe in (False, True):
        with pytest.raises(BackingDiskError, match=f"{foreign.kind}.*came later, and is not wiped"):
            decide(DISK, Contents((GPT, foreign), TABLE.edges), BEGUN, wipe=wipe)


def test_data_beyond_our_half_made_table_is_refused() -> None:
    contents = replace(TABLE, edges=Edges(data=(0, 1 << 20)))
    with pytest.raises(BackingDiskError, match="came later"):
        decide(DISK, contents, BEGUN)


def test_somebody_elses_partition_on_our_disk_is_refused() -> None:
    other = part(partuuid="other", fstype="ext4")
    with pytest.raises(BackingDiskError, match=r"partition /dev/vdb1 \(ext4\)"):
        decide(holding(other), Contents((GPT,)), BEGUN)


def test_a_blank_disk_that_something_uses_is_refused() -> None:
    for history in (FRESH, BEGUN):
        with pytest.raises(BackingDiskError, match="something uses it all the same"):
            decide(DISK, Contents(held=True), history)


def test_another_disk_than_the_one_begun_with_is_refused() -> None:
    with pytest.raises(BackingDiskError, match=r"began with the disk of serial 'data-xen1'.*serial 'data-9'"):
        decide(replace(DISK, serial="data-9"), Contents(), BEGUN)


def test_a_partition_that_was_there_once_is_not_made_again() -> None:
    for contents in (Contents(), TABLE):
        with pytest.raises(BackingDiskError, match=f"PARTUUID {PARTUUID}.* and it is gone"):
            decide(DISK, contents, replace(BEGUN, done=True), wipe=True)


def test_a_wipe_is_decided_with_what_it_erases() -> None:
    other = part(partlabel=OTHER, fstype="drbd")
    contents = Contents((GPT, Signature("vdb1", "drbd", 4096)), Edges(data=(0,), names=(OTHER,)))
    decision = decide(holding(other), contents, wipe=True)
    assert decision == WipeDisk(
        holding(other),
        ("gpt at byte 512 of vdb", "drbd at byte 4096 of vdb1", f"partition /dev/vdb1 (drbd, {OTHER})"),
    )


@pytest.mark.parametrize(
    ("rule", "wipe"),
    [
        (DiskRule(serial="data-xen1", wipe=True), True),
        (DiskRule(serial="data-xen1"), False),
        (DiskRule(serial="data-*", wipe=True), False),
        (DiskRule(serial="data-xen2", wipe=True), False),
        (DiskRule(min_size=GIB, wipe=True), False),
    ],
)
def test_only_a_rule_with_the_exact_serial_may_wipe(rule: DiskRule, wipe: bool) -> None:
    assert backing.may_wipe(rule, DISK) is wipe


@pytest.mark.parametrize("history", [FRESH, WIPING])
def test_a_partition_of_this_cluster_is_never_wiped(history: History) -> None:
    there = decide_error(holding(part(partlabel=OWN, fstype="drbd")), Contents((GPT,)), history)
    gone = decide_error(DISK, Contents(edges=Edges(data=(0,), names=(OWN,))), history)
    for error in (there, gone):
        assert "a partition of this very cluster" in error


@pytest.mark.parametrize(
    ("history", "contents", "reason"),
    [
        (replace(FRESH, rebuilt=True), Contents((GPT,)), "journal of first boot was lost"),
        (WIPED, Contents((GPT, Signature("vdb", "ext4", 1080))), "came later"),
        (FRESH, Contents((GPT,), held=True), "something uses it"),
    ],
)
def test_a_wipe_never_happens_twice_nor_below_a_user(history: History, contents: Contents, reason: str) -> None:
    assert reason in decide_error(DISK, contents, history)


def decide_error(disk: BlockDevice, contents: Contents, history: History) -> str:
    with pytest.raises(BackingDiskError) as e:
        decide(disk, contents, history, wipe=True)
    return str(e.value)


def test_an_unused_partition_of_our_name_is_adopted_where_the_journal_knows_of_none() -> None:
    own = part(partlabel=OWN, partuuid=PARTUUID)
    assert decide(holding(own), TABLE, unused=True) == AdoptPartition(own)
    with pytest.raises(BackingDiskError, match="of this very cluster"):
        decide(holding(own), TABLE, unused=False)


@pytest.mark.parametrize("name", [OTHER, "xenpair-xenpair-r1", ""])
def test_only_the_very_name_is_adopted(name: str) -> None:
    with pytest.raises(BackingDiskError):
        decide(holding(part(partlabel=name)), TABLE, unused=True)


def test_a_partition_name_fits_into_a_gpt() -> None:
    section = CLUSTER.cluster.model_copy(update={"name": "n" * 63})
    long = CLUSTER.model_copy(update={"cluster": section})
    assert backing.partition_name(long) == "xenpair-" + "n" * 28
    assert backing.partition_name(CLUSTER) == OWN


KINDS = st.sampled_from(["gpt", "PMBR", "dos", "ext4", "LVM2_member", "linux_raid_member", "swap", "drbd"])
OFFSETS = st.sampled_from([0, 512, 4096, EDGE - 4096, SIZE - EDGE, SIZE - 4096])
SIGNATURES = st.lists(st.builds(Signature, st.sampled_from(["vdb", "vdb1"]), KINDS, OFFSETS), max_size=3)
EDGES = st.builds(
    Edges,
    st.lists(OFFSETS, max_size=3).map(tuple),
    names=st.lists(st.sampled_from([OWN, OTHER]), max_size=2).map(tuple),
)
CONTENTS = st.builds(Contents, SIGNATURES.map(tuple), EDGES, st.booleans())
PARTS = st.builds(
    BlockDevice,
    st.sampled_from(["/dev/vdb1", "/dev/vdb2"]),
    st.just("part"),
    st.just(GIB),
    partuuid=st.sampled_from([PARTUUID, "other", ""]),
    partlabel=st.sampled_from([OWN, OTHER, "", "home"]),
)
DISKS = st.builds(
    lambda serial, children: replace(DISK, serial=serial, children=tuple(children)),
    st.sampled_from(["data-xen1", "data-2", ""]),
    st.lists(PARTS, max_size=2),
)
HISTORIES = st.builds(
    History,
    st.sampled_from(["data-xen1", ""]),
    st.sampled_from([PARTUUID, ""]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(DISKS, CONTENTS, HISTORIES, st.booleans(), st.booleans())
def test_nothing_is_made_or_wiped_where_something_is_that_must_stay(
    disk: BlockDevice, contents: Contents, history: History, unused: bool, wipe: bool
) -> None:
    try:
        decision = decide(disk, contents, history, unused=unused, wipe=wipe)
    except BackingDiskError:
        return
    known = [child for child in disk.children if history.partuuid and child.partuuid == history.partuuid]
    names = {*contents.edges.names, *(child.partlabel for child in disk.children)}
    if known:
        assert isinstance(decision, UsePartition)
    if isinstance(decision, MakePartition):
        assert not disk.children
        assert not contents.held
        assert not history.done
        half_made = history.partuuid and not contents.edges.beyond_table(disk.size)
        assert half_made or not (contents.signatures or contents.edges.data)
        assert {s.kind for s in contents.signatures} <= backing.OWN_TABLE
    if isinstance(decision, WipeDisk):
        assert wipe
        assert OWN not in names
        assert not any((history.rebuilt, history.done, history.wiped, contents.held))
        assert history.wiping or not history.partuuid
        assert decision.found
    if isinstance(decision, AdoptPartition):
        assert unused
        assert decision.partition.partlabel == OWN
        assert not history.partuuid
