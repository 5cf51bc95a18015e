"""A new disk in the place of a dead half of the mirror below DRBD, or the old one again.

The record names the new half before anything is written to its disk. Interrupted anywhere, it may be typed again.
"""

from __future__ import annotations

import logging
import uuid

from config.door import run
from firstboot import mirrors, observe
from firstboot.errors import BackingDiskError, NodeError
from firstboot.node import this_node
from firstboot.places import Places
from firstboot.plan import backing, disk_choice, mirror
from firstboot.probe.disks import BlockDevice
from firstboot.steps.disks import partition

log = logging.getLogger("xenpair")


def replace_disk(places: Places, serial: str) -> None:
    """Give the mirror that disk. Raises NodeError where it takes none, BackingDiskError for a disk that is not fit."""
    name = backing.partition_name(this_node(places).cluster)
    if not places.mirror.exists():
        raise NodeError(
            "this node's backing disk is no mirror", hint="a disk below a RAID controller is replaced by its own means"
        )
    with mirrors.held(places.mirror):
        _replace(places, serial, name)


def _replace(places: Places, serial: str, name: str) -> None:
    found = mirrors.status(places.mirror)
    if found is None:
        raise NodeError(f"{places.mirror} is gone", hint="type it again")
    known, now = found
    if now.state != "degraded":
        raise NodeError(f"the mirror below DRBD is {now.state}, so it takes no disk", hint=mirror.advice(now, known))
    disk = _disk(serial, observe.block_devices())
    if serial in (half.serial for half in known.halves) and serial not in now.lost:
        raise BackingDiskError(f"{disk.path} (serial {serial}) is the half that is well")
    half = next((half for half in known.halves if half.serial == serial), None)
    half = half or mirror.Half(serial, str(uuid.uuid4()))
    there = any(child.partuuid == half.partuuid for child in disk.children)
    if not there:
        _refuse_unless_blank(disk, half, begun=half in known.halves, well=_well(known, now.lost))
    log.warning("mirror below DRBD: %s (serial %s) takes the place of %s", disk.path, serial, " and ".join(now.lost))
    known = mirror.with_new_half(known, now.lost[0], half)
    mirrors.write(places.mirror, known)
    if not there:
        partition(disk, half.partuuid, name, mirror.LINUX_RAID)
    # mdadm finds the array's stable name too long.
    device = known.device.resolve()
    for gone in ("failed", "detached"):
        run(["mdadm", "--manage", device, "--remove", gone])
    run(["mdadm", "--manage", device, "--add", half.partition])


def _disk(serial: str, devices: tuple[BlockDevice, ...]) -> BlockDevice:
    disks = [device for device in devices if device.type == "disk" and device.size > 0]
    found = [disk for disk in disks if disk.serial == serial]
    if len(found) != 1:
        raise BackingDiskError(
            f"{len(found) or 'no'} disks here have the serial {serial}; there are: {disk_choice.describe(disks)}"
        )
    if (reason := disk_choice.unusable(found[0])) is not None:
        raise BackingDiskError(f"{found[0].path} is the disk with serial {serial}, {reason}")
    return found[0]


def _well(known: mirror.Mirror, lost: tuple[str, ...]) -> BlockDevice | None:
    kept = [half.serial for half in known.halves if half.serial not in lost]
    return next((disk for disk in observe.block_devices() if disk.serial in kept), None)


def _refuse_unless_blank(disk: BlockDevice, half: mirror.Half, *, begun: bool, well: BlockDevice | None) -> None:
    """Raises BackingDiskError. begun: this command began with that disk before, and left at most its table."""
    contents = observe.contents(disk)
    history = backing.History(half.serial, half.partuuid if begun else "")
    if contents.held or not (backing.is_blank(disk, contents) or backing.is_half_made(disk, contents, history)):
        found = ", ".join(backing.findings(disk, contents)) or "something uses it"
        raise BackingDiskError(
            f"{disk.path} (serial {disk.serial}) is not blank: {found}",
            hint=f"if nothing on it is needed, clear it by hand, then type this again: {backing.by_hand(disk)}",
        )
    if well is not None and disk.size < well.size:
        raise BackingDiskError(
            f"{disk.path} (serial {disk.serial}) has {disk.size} bytes, and the half that is well has {well.size}",
            hint="take a disk that is at least as large",
        )
