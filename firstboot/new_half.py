"""A new disk in the place of a dead half of a mirror, below DRBD or of the system, or the old one again.

The record names the new half before anything is written to its disk. Interrupted anywhere, it may be typed again.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from config.door import run
from firstboot import mirrors, observe
from firstboot.errors import NodeError, UnfitDiskError
from firstboot.node import this_node
from firstboot.places import Places
from firstboot.plan import backing, disk_choice, mirror
from firstboot.probe.disks import BlockDevice
from firstboot.steps.disks import partition
from firstboot.system_half import copy_boot, make_table, planned_half

log = logging.getLogger("xenpair")

PAUSE = 2.0
"""Seconds between two looks at how far the copying is."""
LOOKS = 15
"""In a row that may find the new half idle: md's own thread begins with it some time after mdadm has returned."""

BELOW: dict[mirror.Purpose, str] = {"backing": "mirror below DRBD", "system": "mirror of the system"}


def replace_disk(places: Places, serial: str, say: Callable[[str], None], of: mirror.Purpose | None = None) -> str:
    """Give the mirror that lacks a half that disk; of: which mirror, where both do. Returns what is so now, in words.

    Below DRBD it returns once the copying has begun; with a disk of the system when that is whole and boots, and tells
    say how far it is. Raises NodeError where no mirror takes it, UnfitDiskError for a disk that is not fit.
    """
    purpose = of or _purpose(places, serial)
    record = _records(places)[purpose]
    if not record.exists():
        raise NodeError(
            f"this node's {purpose} disk is no mirror",
            hint="a disk below a RAID controller is replaced by its own means",
        )
    with mirrors.held(record):
        known, now = _looked_at(record)
        if not (known.bare == serial and now.state == "rebuilding"):
            _replace(places, purpose, (known, now), serial)
    if purpose == "system":
        _await_copy(record, say)
        with mirrors.held(record):
            _make_bootable(record, serial)
        return "it has all that the other one has, and boots"
    return "the mirror copies to it; `xenpair status` shows how far that is"


def _records(places: Places) -> dict[mirror.Purpose, Path]:
    return {"backing": places.mirror, "system": places.system_mirror}


def _looked_at(record: Path) -> tuple[mirror.Mirror, mirror.Standing]:
    known = _known(record)
    return known, mirror.standing(known, *mirrors.look(known))


def _known(record: Path) -> mirror.Mirror:
    known = mirrors.read(record)
    if known is None:
        raise NodeError(f"{record} is gone", hint="type it again")
    return known


def _purpose(places: Places, serial: str) -> mirror.Purpose:
    """Which mirror is meant: the one that knows the disk, or else the one that lacks a half."""
    found = {purpose: _looked_at(record) for purpose, record in _records(places).items() if record.exists()}
    knowing = [purpose for purpose, (known, _) in found.items() if serial in (half.serial for half in known.halves)]
    lacking = [purpose for purpose, (_, now) in found.items() if now.state == "degraded"]
    if not knowing and len(lacking) > 1:
        raise NodeError(
            "both mirrors of this node have lost a half",
            hint="say which one gets this disk: --of system, or --of backing",
        )
    return next(iter((*knowing, *lacking, *found)), "backing")


def _replace(
    places: Places, purpose: mirror.Purpose, found: tuple[mirror.Mirror, mirror.Standing], serial: str
) -> None:
    known, now = found
    if now.state != "degraded":
        raise NodeError(f"the {BELOW[purpose]} is {now.state}, so it takes no disk", hint=mirror.advice(now, known))
    devices = observe.block_devices()
    disk = _disk(serial, devices)
    kept = next(half for half in known.halves if half.serial not in now.lost)
    if serial == kept.serial:
        raise UnfitDiskError(f"{disk.path} (serial {serial}) is the half that is well")
    well = next((disk for disk in devices if disk.serial == kept.serial), None)
    half = next((half for half in known.halves if half.serial == serial), None)
    there = half is not None and any(child.partuuid == half.partuuid for child in disk.children)
    if half is None or not there:
        half = _new_half(purpose, half, well, serial)
        _refuse_unless_blank(disk, half, begun=half in known.halves, well=well)
    if known.bare == kept.serial:
        raise NodeError(
            f"the disk that is left (serial {kept.serial}) does not boot yet, so no other one can learn it from that",
            hint="put the disk back that it was to be copied from, or install this node anew: docs/plugs.md",
        )
    log.warning("%s: %s (serial %s) takes the place of %s", BELOW[purpose], disk.path, serial, " and ".join(now.lost))
    known = mirror.with_new_half(known, now.lost[0], half, purpose)
    mirrors.write(_records(places)[purpose], known)
    if not there and purpose == "backing":
        partition(disk, half.partuuid, backing.partition_name(this_node(places).cluster), mirror.LINUX_RAID)
    elif not there and well is not None:
        make_table(well, disk)
    # mdadm finds the array's stable name too long.
    device = known.device.resolve()
    for gone in ("failed", "detached"):
        run(["mdadm", "--manage", device, "--remove", gone])
    run(["mdadm", "--manage", device, "--add", half.partition])


def _await_copy(record: Path, say: Callable[[str], None]) -> None:
    """Until both halves are equal: a disk of which half has been copied must not be booted from."""
    told, left = None, LOOKS
    while True:
        known = _known(record)
        # That it does not boot yet is what this is waited for.
        now = mirror.standing(mirror.bootable(known), *mirrors.look(known))
        match now.state:
            case "whole":
                return
            case "degraded" if left:
                left -= 1
            case "rebuilding" | "copying":
                left = LOOKS
            case _:
                raise NodeError(f"nothing is copied to the new disk: {mirror.advice(now, known)}")
        if now.percent not in (None, told):
            say(f"copying: {now.percent} %")
            told = now.percent
        time.sleep(PAUSE)


def _make_bootable(record: Path, serial: str) -> None:
    """Copy what firmware starts, which comes last, and write down that it is there."""
    known = _known(record)
    if known.bare == serial:
        copy_boot(known, serial, observe.block_devices())
        mirrors.write(record, mirror.bootable(known))


def _new_half(
    purpose: mirror.Purpose, before: mirror.Half | None, well: BlockDevice | None, serial: str
) -> mirror.Half:
    """What the disk will be known by: the same whenever this is asked again. Raises NodeError."""
    if purpose == "backing":
        return before or mirror.Half(serial, str(uuid.uuid4()))
    if well is None:
        raise NodeError("the disk of the half that is well is not to be seen", hint="see `lsblk -o PATH,SERIAL`")
    return planned_half(well, serial)


def _disk(serial: str, devices: tuple[BlockDevice, ...]) -> BlockDevice:
    disks = [device for device in devices if device.type == "disk" and device.size > 0]
    found = [disk for disk in disks if disk.serial == serial]
    if len(found) != 1:
        raise UnfitDiskError(
            f"{len(found) or 'no'} disks here have the serial {serial}; there are: {disk_choice.describe(disks)}"
        )
    if (reason := disk_choice.unusable(found[0])) is not None:
        raise UnfitDiskError(f"{found[0].path} is the disk with serial {serial}, {reason}")
    return found[0]


def _refuse_unless_blank(disk: BlockDevice, half: mirror.Half, *, begun: bool, well: BlockDevice | None) -> None:
    """Raises UnfitDiskError. begun: this command began with that disk before, and left at most its table."""
    contents = observe.contents(disk)
    history = backing.History(half.serial, half.partuuid if begun else "")
    if contents.held or not (backing.is_blank(disk, contents) or backing.is_half_made(disk, contents, history)):
        found = ", ".join(backing.findings(disk, contents)) or "something uses it"
        raise UnfitDiskError(
            f"{disk.path} (serial {disk.serial}) is not blank: {found}",
            hint=f"if nothing on it is needed, clear it by hand, then type this again: {backing.by_hand(disk)}",
        )
    if well is not None and disk.sector != well.sector:
        raise UnfitDiskError(
            f"{disk.path} (serial {disk.serial}) has sectors of {disk.sector} bytes, and the half that is well of "
            f"{well.sector}",
            hint="take a disk with the same ones",
        )
    if well is not None and disk.size < well.size:
        raise UnfitDiskError(
            f"{disk.path} (serial {disk.serial}) has {disk.size} bytes, and the half that is well has {well.size}",
            hint="take a disk that is at least as large",
        )
