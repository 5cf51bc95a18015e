"""A new disk in the place of a dead half of the system's mirror: with real tables, in files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firstboot import mirrors, new_half, observe
from firstboot.errors import NodeError, UnfitDiskError
from firstboot.new_half import replace_disk
from firstboot.places import Places
from firstboot.plan.mirror import LINUX_RAID, Half, Mirror, advice, bootable, standing, with_new_half
from firstboot.probe.disks import BlockDevice, Contents
from firstboot.probe.mirror import Array
from firstboot.system_half import BOOT_CODE, copy_boot, make_table, planned_half

MIB = 1 << 20
SIZE = 16 * MIB
GOOD, DEAD = (
    Half("s-a", "a" * 8 + "-0000-4000-8000-000000000003"),
    Half("s-b", "b" * 8 + "-0000-4000-8000-000000000003"),
)
PAIR = Mirror("11111111:22222222:33333333:44444444", (GOOD, DEAD))
TABLE = f"""\
label: gpt
label-id: AAAAAAAA-0000-4000-8000-000000000000
first-lba: 34
start=34, size=2014, type=21686148-6449-6E6F-744E-656564454649, uuid=AAAAAAAA-0000-4000-8000-000000000001
start=2048, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=AAAAAAAA-0000-4000-8000-000000000002
start=10240, size=16384, type={LINUX_RAID}, uuid={GOOD.partuuid.upper()}, name="root"
"""


def disk(path: Path, serial: str, parts: tuple[tuple[str, int], ...] = ()) -> BlockDevice:
    """A file as a disk, and files beside it as its partitions: their PARTUUIDs and sizes."""
    children = tuple(
        BlockDevice(path=f"{path}{n}", type="part", size=size, partuuid=partuuid)
        for n, (partuuid, size) in enumerate(parts, 1)
    )
    return BlockDevice(path=str(path), type="disk", size=path.stat().st_size, serial=serial, children=children)


def blank(path: Path, size: int = SIZE) -> Path:
    with path.open("wb") as f:
        f.truncate(size)
    return path


def table(path: Path) -> Any:
    printed = subprocess.run(["sfdisk", "--json", path], capture_output=True, text=True, check=True)
    return json.loads(printed.stdout)["partitiontable"]


@pytest.fixture
def well(tmp_path: Path, real_programs: None) -> BlockDevice:
    path = blank(tmp_path / "well")
    subprocess.run(["sfdisk", "--quiet", path], input=TABLE, text=True, check=True)
    return disk(path, GOOD.serial)


@pytest.mark.parametrize("more", [0, 8 * MIB])
def test_the_new_disk_gets_the_same_places_under_other_names(
    well: BlockDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(observe, "settle", lambda: None)
    new = disk(blank(tmp_path / "new", SIZE + more), "s-new")
    make_table(well, new)
    before, after = table(Path(well.path)), table(Path(new.path))
    for key in ("start", "size", "type"):
        assert [part[key] for part in before["partitions"]] == [part[key] for part in after["partitions"]]
    names = [[t["id"], *(part["uuid"] for part in t["partitions"])] for t in (before, after)]
    assert not set(names[0]) & set(names[1])
    assert planned_half(well, "s-new") == Half("s-new", after["partitions"][-1]["uuid"].lower())


def test_what_firmware_starts_is_copied_and_nothing_else(tmp_path: Path) -> None:
    disks = []
    for name, half, content in (("well", GOOD, b"g"), ("new", DEAD, b"n")):
        path = tmp_path / name
        path.write_bytes(content * 4096)
        for n in (1, 2, 3):
            Path(f"{path}{n}").write_bytes(content * n * MIB)
        disks.append(disk(path, half.serial, (("1", MIB), ("2", 2 * MIB), (half.partuuid, 3 * MIB))))
    copy_boot(PAIR, DEAD.serial, disks)
    assert (tmp_path / "new").read_bytes() == b"g" * BOOT_CODE + b"n" * (4096 - BOOT_CODE)
    assert [Path(tmp_path, f"new{n}").read_bytes()[:1] for n in (1, 2, 3)] == [b"g", b"g", b"n"]
    assert (tmp_path / "well").read_bytes() == b"g" * 4096

    other = replace(disks[1], children=disks[1].children[1:])
    with pytest.raises(UnfitDiskError, match=r"partitions of .*new are not those of .*well"):
        copy_boot(PAIR, DEAD.serial, [disks[0], other])
    with pytest.raises(NodeError, match="serial s-a is not to be seen"):
        copy_boot(PAIR, DEAD.serial, disks[1:])


def test_a_disk_that_does_not_boot_yet_does_not_count(tmp_path: Path) -> None:
    new = Half("s-new", "c")
    begun = with_new_half(PAIR, DEAD.serial, new, "system")
    names = {GOOD.partuuid: "vda3", "c": "vdb3"}
    whole = Array(running=True, in_sync=frozenset(names.values()))
    now = standing(begun, whole, names)
    assert now.state == "rebuilding"
    assert "`xenpair replace-disk s-new`" in advice(now, begun)
    assert standing(bootable(begun), whole, names).state == "whole"
    assert standing(begun, Array(running=True, in_sync=frozenset({"vda3"})), names).lost == ("s-new",)
    record = tmp_path / "m"
    mirrors.write(record, begun)
    assert mirrors.read(record) == begun
    record.write_text(
        json.dumps({key: value for key, value in json.loads(record.read_text()).items() if key != "bare"})
    )
    assert mirrors.read(record) == bootable(begun)


class Machine:
    """A node whose system's mirror has lost a half, with a blank disk in it; what happens to that, in its order."""

    def __init__(self, places: Places, tmp_path: Path) -> None:
        self.places = places
        self.done: list[str] = []
        self.disks = [
            disk(blank(tmp_path / "vda"), GOOD.serial, (("1", MIB), (GOOD.partuuid, MIB))),
            disk(blank(tmp_path / "vdb"), "s-new"),
        ]
        self.array = Array(running=True, in_sync=frozenset({"vda2"}))
        self.added, self.rest = False, 0
        """Looks until the copying has ended."""

    def record(self) -> Mirror:
        record = mirrors.read(self.places.system_mirror)
        assert record
        return record

    def make_table(self, _: BlockDevice, new: BlockDevice) -> None:
        assert self.record().bare == new.serial, "nobody would know what was begun here"
        half = next(half for half in self.record().halves if half.serial == new.serial)
        self.disks[1] = disk(Path(new.path), new.serial, (("9", MIB), (half.partuuid, MIB)))
        self.done.append("table")

    def run(self, argv: list[object]) -> None:
        if "--add" in argv:
            self.done.append("add")
            self.added, self.rest = True, 5

    def look(self, known: Mirror) -> tuple[Array, dict[str, str]]:
        if self.added:
            self.rest -= 1
            if self.rest < 0:
                self.array, self.added = Array(running=True, in_sync=frozenset({"vda2", "vdb2"})), False
            elif self.rest < 3:
                self.array = replace(self.array, rebuilding=frozenset({"vdb2"}), percent=5)
        parts = {child.partuuid: Path(child.path).name for disk in self.disks for child in disk.children}
        return self.array, {half.partuuid: parts[half.partuuid] for half in known.halves if half.partuuid in parts}

    def copy_boot(self, _known: Mirror, serial: str, _devices: object) -> None:
        assert not self.array.rebuilding, "a disk that boots with half of a file system"
        self.done.append(f"boot {serial}")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    places = Places(tmp_path / "root")
    places.system_mirror.parent.mkdir(parents=True)
    mirrors.write(places.system_mirror, PAIR)
    machine = Machine(places, tmp_path)
    monkeypatch.setattr(new_half, "make_table", machine.make_table)
    monkeypatch.setattr(new_half, "copy_boot", machine.copy_boot)
    monkeypatch.setattr(new_half, "planned_half", lambda _, serial: Half(serial, "c"))
    monkeypatch.setattr(new_half, "run", machine.run)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(mirrors, "look", machine.look)
    monkeypatch.setattr(observe, "block_devices", lambda: tuple(machine.disks))
    monkeypatch.setattr(observe, "contents", lambda _: Contents())
    return machine


def ignored(_: str) -> None:
    """Nobody listens."""


def test_the_boot_code_comes_when_all_has_been_copied(machine: Machine) -> None:
    told: list[str] = []
    assert "boots" in replace_disk(machine.places, "s-new", told.append)
    assert machine.done == ["table", "add", "boot s-new"]
    assert told == ["copying: 5 %"]
    assert machine.record() == Mirror(PAIR.array, (GOOD, Half("s-new", "c")), ("s-new",))


def test_typed_again_it_goes_on_with_what_is_left(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_disk(machine.places, "s-new", interrupt)
    assert machine.done == ["table", "add"]
    replace_disk(machine.places, "s-new", ignored)
    assert machine.done == ["table", "add", "boot s-new"]
    assert machine.record().bare == ""
    with pytest.raises(NodeError, match="mirror of the system is whole, so it takes no disk"):
        replace_disk(machine.places, "s-new", ignored)


def test_a_new_disk_that_dies_while_it_is_copied_to_is_told(machine: Machine) -> None:
    def die(_: str) -> None:
        machine.array, machine.added = Array(running=True, in_sync=frozenset({"vda2"})), False

    with pytest.raises(NodeError, match=r"nothing is copied to the new disk: the disk with serial s-new is lost"):
        replace_disk(machine.places, "s-new", die)
    assert machine.done == ["table", "add"]


def test_a_mirror_that_stops_while_it_is_copied_has_not_ended_well(machine: Machine) -> None:
    def stop(_: str) -> None:
        machine.array, machine.added = Array(running=False), False

    with pytest.raises(NodeError, match="nothing is copied to the new disk"):
        replace_disk(machine.places, "s-new", stop)
    assert machine.done == ["table", "add"]
    assert machine.record().bare == "s-new"


def test_a_disk_with_other_sectors_is_refused(machine: Machine) -> None:
    machine.disks[1] = replace(machine.disks[1], sector=4096)
    with pytest.raises(UnfitDiskError, match="has sectors of 4096 bytes, and the half that is well of 512"):
        replace_disk(machine.places, "s-new", ignored)
    assert machine.done == []


def test_no_disk_learns_to_boot_from_one_that_does_not(machine: Machine) -> None:
    mirrors.write(machine.places.system_mirror, replace(PAIR, bare=GOOD.serial))
    with pytest.raises(NodeError, match=r"left \(serial s-a\) does not boot yet"):
        replace_disk(machine.places, "s-new", ignored)
    assert machine.done == []


@pytest.mark.parametrize(
    ("state", "of", "refusal"),
    [
        ("degraded", None, "both mirrors of this node have lost a half"),
        ("degraded", "system", ""),
        ("whole", None, ""),
    ],
)
def test_a_disk_goes_to_the_mirror_that_lacks_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str, of: Any, refusal: str
) -> None:
    other = Mirror("other", (Half("d-a", "x"), Half("d-b", "y")))
    mirrors.write(machine.places.mirror, other)
    whole = Array(running=True, in_sync=frozenset({"vdc1"} if state == "degraded" else {"vdc1", "vdd1"}))
    look: Callable[[Mirror], Any] = machine.look
    monkeypatch.setattr(
        mirrors, "look", lambda known: (whole, {"x": "vdc1", "y": "vdd1"}) if known.array == "other" else look(known)
    )
    if refusal:
        with pytest.raises(NodeError, match=refusal):
            replace_disk(machine.places, "s-new", ignored, of)
        assert machine.done == []
    else:
        replace_disk(machine.places, "s-new", ignored, of)
        assert machine.record().halves[1].serial == "s-new"
    assert mirrors.read(machine.places.mirror) == other
