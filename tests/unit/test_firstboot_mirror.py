"""The mirror below DRBD: how it is, which half is out, and what takes a dead one's place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.model import Cluster, DiskRule
from firstboot import mirrors, observe
from firstboot.errors import BackingDiskError, NodeError, ProbeError, UnfitDiskError
from firstboot.new_half import replace_disk
from firstboot.places import Places
from firstboot.plan import backing, mirror
from firstboot.plan.mirror import Half, Mirror, Standing, advice, noted, standing, with_new_half
from firstboot.plan.replication import absent
from firstboot.probe.disks import EDGE, BlockDevice
from firstboot.probe.mirror import Array, parse_array
from firstboot.status import FencingStatus, MirrorStatus, as_text, health, without_identity
from tests.unit import fake_disk
from tests.unit.fake_node import EXAMPLE, MIRRORED, WHOLE, FakeNode, PowerCut, install

A, B, C = (Half(f"data-{n}", f"{n * 8}-0000-4000-8000-000000000000") for n in "abc")
UUID = "11111111:22222222:33333333:44444444"
PAIR = Mirror(UUID, (A, B))
NAMES = {A.partuuid: "vda", B.partuuid: "vdb"}
BOTH, ONLY_A, ONLY_B = (Array(running=True, in_sync=frozenset(names)) for names in (("vda", "vdb"), ("vda",), ("vdb",)))


def from_captured(captured: Path, name: str) -> Array:
    lines = (captured / "md" / f"{name}.txt").read_text().splitlines()
    return parse_array(dict(line.split(":", 1) for line in lines))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("whole", BOTH),
        ("resync", replace(BOTH, percent=18)),
        ("degraded", ONLY_A),
        ("faulty", replace(ONLY_A, faulty=frozenset({"vdb"}))),
        ("recovering", replace(ONLY_A, rebuilding=frozenset({"vdc"}), percent=0)),
        ("replaced", Array(running=True, in_sync=frozenset({"vda", "vdc"}))),
        ("run", Array(running=True, in_sync=frozenset({"vdc"}))),
        ("inactive", Array(running=False)),
    ],
)
def test_what_the_kernel_says_of_an_array(captured: Path, name: str, found: Array) -> None:
    assert from_captured(captured, name) == found


def test_what_is_no_array_is_not_taken_for_one() -> None:
    with pytest.raises(ProbeError, match="sync_action"):
        parse_array({"array_state": "clean\n"})


def test_a_check_that_only_reads_is_no_copying() -> None:
    files = {"array_state": "active", "sync_action": "check", "sync_completed": "10 / 100", "dev-vda/state": "in_sync"}
    assert parse_array(files).percent is None


@pytest.mark.parametrize(
    ("array", "names", "found"),
    [
        (BOTH, NAMES, Standing("whole")),
        (replace(BOTH, percent=18), NAMES, Standing("copying", percent=18)),
        (ONLY_A, {A.partuuid: "vda"}, Standing("degraded", ("data-b",))),
        (replace(ONLY_A, faulty=frozenset({"vdb"})), NAMES, Standing("degraded", ("data-b",))),
        (replace(ONLY_A, rebuilding=frozenset({"vdb"}), percent=7), NAMES, Standing("rebuilding", percent=7)),
        (None, NAMES, Standing("stopped")),
        (Array(running=False), {A.partuuid: "vda"}, Standing("stopped", ("data-b",))),
    ],
)
def test_how_a_mirror_is(array: Array | None, names: dict[str, str], found: Standing) -> None:
    assert standing(PAIR, array, names) == found


def test_a_half_that_was_out_is_known_when_it_comes_back_alone() -> None:
    alone = noted(PAIR, ONLY_B, {B.partuuid: "vdb"})
    assert alone.out == ("data-a",)
    now = standing(alone, ONLY_A, {A.partuuid: "vda"})
    assert now.state == "outdated"
    assert "serial data-b" in advice(now, alone)
    assert noted(alone, ONLY_A, {A.partuuid: "vda"}) == alone, "what is outdated is no reason to forget who is not"
    assert standing(alone, ONLY_B, {B.partuuid: "vdb"}).state == "degraded"
    assert noted(alone, BOTH, NAMES).out == ()


def test_what_does_not_run_says_nothing_of_who_is_out() -> None:
    assert noted(replace(PAIR, out=("data-a",)), None, NAMES).out == ("data-a",)
    assert noted(PAIR, Array(running=True), NAMES) == PAIR


def test_a_new_half_is_out_until_it_has_been_copied_to() -> None:
    renewed = with_new_half(replace(PAIR, out=("data-b",)), "data-b", C)
    assert renewed == Mirror(UUID, (A, C), out=("data-c",))
    rebuilding = replace(ONLY_A, rebuilding=frozenset({"vdc"}), percent=1)
    assert noted(renewed, rebuilding, {A.partuuid: "vda", C.partuuid: "vdc"}).out == ("data-c",)


def test_mdadm_is_told_all_and_asks_nothing() -> None:
    argv = mirror.create_argv("backing", UUID, [A.partition, B.partition])
    assert argv[:4] == ["mdadm", "--create", "/dev/md/xenpair-backing", "--run"]
    assert {"--metadata=1.2", "--level=1", "--raid-devices=2", "--bitmap=internal", f"--uuid={UUID}"} <= set(argv)
    assert argv[-2:] == [str(A.partition), str(B.partition)]
    assert "--metadata=1.0" in mirror.create_argv("system", UUID, [])
    assert len(f"{mirror.HOMEHOST['system']}:{mirror.array_name('system')}") <= 32, "md_p.h: set_name"


def test_the_image_puts_together_the_systems_mirror_and_no_foreign_one() -> None:
    conf = (Path(__file__).parents[2] / "templates/image/etc/mdadm/mdadm.conf").read_text().splitlines()
    assert f"HOMEHOST {mirror.HOMEHOST['system']}" in conf
    assert {"AUTO homehost -all", "POLICY auto=no"} <= set(conf)
    assert mirror.HOMEHOST["backing"] != mirror.HOMEHOST["system"]


def test_the_head_of_the_mirror_stands_where_first_boot_looks() -> None:
    assert (1 + mirror.DATA_OFFSET_MIB + 5) << 20 <= EDGE


def test_every_array_has_a_name_that_the_join_takes() -> None:
    one, other = mirror.new_array(), mirror.new_array()
    assert one != other
    assert [len(part) for part in one.split(":")] == [8, 8, 8, 8]


GIB = 1 << 30
TWO = [BlockDevice(f"/dev/vd{n}", "disk", 4 * GIB, serial=f"data-{n}") for n in "cb"]


def test_a_mirror_takes_exactly_two_disks() -> None:
    rule = DiskRule(serial="data-*", raid1=True)
    assert [disk.path for disk in backing.backing_disks(rule, TWO)] == ["/dev/vdb", "/dev/vdc"]
    assert backing.backing_disks(DiskRule(serial=("data-c", "data-b"), raid1=True), TWO)
    with pytest.raises(BackingDiskError, match=r"fits 1 disk \(/dev/vdc.*exactly two, as it says raid1"):
        backing.backing_disks(rule, TWO[:1])
    with pytest.raises(BackingDiskError, match="fits 3 disks"):
        backing.backing_disks(rule, [*TWO, replace(TWO[0], path="/dev/vdd", serial="data-d")])
    with pytest.raises(BackingDiskError, match="read-only"):
        backing.backing_disks(rule, [TWO[0], replace(TWO[1], read_only=True)])


@pytest.mark.parametrize("serial", ["", "data-c"])
def test_two_disks_that_serials_do_not_tell_apart_are_no_mirror(serial: str) -> None:
    with pytest.raises(BackingDiskError, match="do not tell apart"):
        backing.backing_disks(DiskRule(min_size=GIB, raid1=True), [TWO[0], replace(TWO[1], serial=serial)])


def test_each_of_two_patterns_means_one_disk() -> None:
    rule = DiskRule(serial=("data-?", "other-*"), raid1=True)
    with pytest.raises(BackingDiskError, match="do not tell apart"):
        backing.backing_disks(rule, TWO)


def test_both_disks_of_a_mirror_are_wiped_by_their_exact_serials() -> None:
    rule = DiskRule(serial=("data-b", "data-c"), raid1=True, wipe=True)
    assert all(backing.may_wipe(rule, disk) for disk in TWO)
    assert not backing.may_wipe(replace_rule(rule, serial=("data-b", "data-c*")), TWO[0])
    assert not backing.may_wipe(replace_rule(rule, raid1=False), TWO[0])


def replace_rule(rule: DiskRule, **changes: object) -> DiskRule:
    return rule.model_copy(update=changes)


def test_a_mirror_that_waits_for_a_half_is_not_taken_for_swapped_disks() -> None:
    def holding(half: Half) -> BlockDevice:
        part = BlockDevice("/dev/vdb1", "part", GIB, partuuid=half.partuuid, partlabel="xenpair-xenpair-r0")
        return replace(TWO[1], children=(part,))

    halves = [A.partuuid, B.partuuid]
    waits = absent("/dev/disk/by-id/md-uuid-x", "r0", [holding(A)], halves)
    assert "mirror" in waits
    assert "of its halves /dev/vdb1 is there, which starts alone after 30 s" in waits
    assert "are the disks swapped?" in absent("/dev/disk/by-id/md-uuid-x", "r0", [holding(C)], halves)


def test_a_mirror_with_a_dead_half_is_degraded_and_says_what_to_type() -> None:
    ready = FencingStatus("ready")

    def judged(state: mirror.State) -> str:
        return health("done", WHOLE, True, "up", ready, mirrored=MirrorStatus(state).sound)

    assert [judged("whole"), judged("copying")] == ["healthy", "healthy"]
    assert [judged("degraded"), judged("rebuilding"), judged("outdated"), judged("stopped")] == ["degraded"] * 4
    now = Standing("degraded", ("data-b",))
    shown = MirrorStatus(now.state, now.lost, now.percent, advice(now, PAIR))
    text = as_text(replace(without_identity(Places(Path("/nowhere")), "xen1"), mirror=shown))
    assert "mirror       degraded" in text
    assert "serial data-b is lost" in text
    assert "xenpair replace-disk SERIAL" in text


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert mirrors.read(tmp_path / "none") is None
    mirrors.write(tmp_path / "m", replace(PAIR, out=("data-a",)))
    assert mirrors.read(tmp_path / "m") == replace(PAIR, out=("data-a",))
    (tmp_path / "m").write_text("{}")
    with pytest.raises(NodeError, match="not what was written there"):
        mirrors.read(tmp_path / "m")


@pytest.fixture
def node(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    """A formed node with a mirror, of which the second half has died; the disk is out of the machine."""
    config = EXAMPLE.replace('{serial: "data-*", min_size: 4M}', MIRRORED)
    node = FakeNode(tmp_path / "node", cluster, config, mirrored=True)
    install(node, monkeypatch)
    node.first_boot()
    assert node.mirror
    node.disks.remove(node.mirror.halves.pop())
    node.power_on()
    return node


def nothing(_: str) -> None:
    """Nobody listens."""


def admitted(node: FakeNode) -> list[str]:
    """What the storage unit says while it does not let DRBD have the mirror."""
    reasons: list[str] = []

    def pause() -> None:
        raise InterruptedError

    try:
        mirrors.admit(node.places, reasons.append, pause)
    except InterruptedError:
        assert reasons
    return reasons


def test_drbd_never_gets_the_half_that_was_out(node: FakeNode) -> None:
    assert admitted(node) == []
    record = mirrors.read(node.places.mirror)
    assert record
    assert record.out == ("data-xen1b",)
    mirrors.write(node.places.mirror, replace(record, out=("data-xen1",)))
    assert "outdated" in admitted(node)[0]


def new_disk(node: FakeNode, serial: str = "new-1") -> fake_disk.FakeDisk:
    disk = fake_disk.FakeDisk(node.tick, "/dev/vdc", serial)
    node.disks.append(disk)
    return disk


def test_a_blank_disk_takes_the_place_of_a_dead_half(node: FakeNode) -> None:
    disk = new_disk(node)
    replace_disk(node.places, "new-1", nothing)
    record, entry = mirrors.read(node.places.mirror), disk.entry()
    assert record
    assert entry
    assert record.halves[1] == Half("new-1", entry[0])
    assert record.out == ("new-1",)
    assert node.programs[-3:] == [
        "mdadm --manage /dev/disk/by-id/md-uuid-" + record.array + " --remove failed",
        "mdadm --manage /dev/disk/by-id/md-uuid-" + record.array + " --remove detached",
        "mdadm --manage /dev/disk/by-id/md-uuid-" + record.array + f" --add {record.halves[1].partition}",
    ]


def test_a_replacement_that_was_cut_short_goes_on_with_the_same_partition(node: FakeNode) -> None:
    disk = new_disk(node)
    node.ticks, node.cut_at = 0, 6
    with pytest.raises(PowerCut):
        replace_disk(node.places, "new-1", nothing)
    record = mirrors.read(node.places.mirror)
    assert record
    assert any(disk.bytes), "cut before the table"
    node.power_on()
    replace_disk(node.places, "new-1", nothing)
    entry = disk.entry()
    assert entry
    assert mirrors.read(node.places.mirror) == record
    assert record.halves[1].partuuid == entry[0]


def test_a_half_that_was_only_unplugged_is_taken_back(node: FakeNode) -> None:
    assert node.mirror
    record = mirrors.read(node.places.mirror)
    assert record
    again = new_disk(node, "data-xen1b")
    again.partition(record.halves[1].partuuid, "xenpair-xenpair-r0")
    before = bytes(again.bytes)
    replace_disk(node.places, "data-xen1b", nothing)
    assert bytes(again.bytes) == before
    assert node.programs[-1].endswith(f"--add {record.halves[1].partition}")


@pytest.mark.parametrize(
    ("serial", "change", "message"),
    [
        ("nobody", None, "no disks here have the serial nobody"),
        ("data-xen1", None, "is the half that is well"),
        ("new-1", (fake_disk.START + 1080, b"\x53\xef"), "is not blank"),
    ],
)
def test_a_disk_that_is_not_fit_is_not_touched(
    node: FakeNode, serial: str, change: tuple[int, bytes] | None, message: str
) -> None:
    disk = new_disk(node)
    if change:
        disk.bytes[change[0] : change[0] + 2] = change[1]
    before, record = bytes(disk.bytes), node.places.mirror.read_bytes()
    with pytest.raises(UnfitDiskError, match=message):
        replace_disk(node.places, serial, nothing)
    assert bytes(disk.bytes) == before
    assert node.places.mirror.read_bytes() == record


def test_a_whole_mirror_takes_no_disk(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    new_disk(node)
    assert node.mirror
    monkeypatch.setattr(observe, "array", lambda _: Array(running=True, in_sync=frozenset({"vdb1", "vdc1"})))
    monkeypatch.setattr(observe, "kernel_name", lambda device: "vdb1" if "partuuid" in str(device) else "md127")
    with pytest.raises(NodeError, match="is whole, so it takes no disk"):
        replace_disk(node.places, "new-1", nothing)
