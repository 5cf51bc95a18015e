"""A new half of the system's mirror: the other one's partitions, and at the very end what firmware starts.

Both disks have the same table, as the installer wrote it: in front the places where a BIOS and where UEFI look, and
behind them root, which alone is mirrored.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from config.door import run
from firstboot.errors import NodeError, UnfitDiskError
from firstboot.plan import mirror
from firstboot.probe.disks import BlockDevice
from firstboot.steps.disks import write_table

BOOT_CODE = 440
"""Bytes at the beginning of a disk that a BIOS starts; the disk's signature and the table follow (UEFI specification
2.10, 5.2.1)."""
_PIECE = 1 << 20


def planned_half(well: BlockDevice, serial: str) -> mirror.Half:
    """What the disk of that serial will be known by; well: the disk of the half that is kept. Raises CommandError."""
    return mirror.Half(serial, mirror.root_partuuid(_table(well, serial)))


def make_table(well: BlockDevice, disk: BlockDevice) -> None:
    """Give a blank disk the same partitions. Raises CommandError."""
    write_table(disk, _table(well, disk.serial))


def copy_boot(known: mirror.Mirror, serial: str, devices: Sequence[BlockDevice]) -> None:
    """Copy what stands in front of root from the other disk to that one, the code that a BIOS starts last.

    Raises NodeError where one of them is gone, UnfitDiskError where their tables differ, OSError.
    """
    new, well = (_disk(half, devices) for half in sorted(known.halves, key=lambda half: half.serial != serial))
    halves = {half.partuuid for half in known.halves}
    pairs = [
        [child for child in sorted(disk.children, key=lambda child: child.path) if child.partuuid not in halves]
        for disk in (well, new)
    ]
    if [child.size for child in pairs[0]] != [child.size for child in pairs[1]]:
        raise UnfitDiskError(f"the partitions of {new.path} are not those of {well.path}; compare them with `lsblk`")
    for source, target in zip(*pairs, strict=True):
        _copy(source.path, target.path, source.size)
    _copy(well.path, new.path, BOOT_CODE)


def _table(well: BlockDevice, serial: str) -> str:
    return mirror.table_of_half(run(["sfdisk", "--dump", well.path]).stdout, serial)


def _disk(half: mirror.Half, devices: Sequence[BlockDevice]) -> BlockDevice:
    found = [disk for disk in devices if any(child.partuuid == half.partuuid for child in disk.children)]
    if len(found) != 1:
        raise NodeError(f"the disk with serial {half.serial} is not to be seen", hint="see `lsblk -o PATH,SERIAL`")
    return found[0]


def _copy(source: str, target: str, size: int) -> None:
    with Path(source).open("rb") as original, Path(target).open("r+b") as copy:
        left = size
        while left and (piece := original.read(min(_PIECE, left))):
            copy.write(piece)
            left -= len(piece)
        copy.flush()
        os.fsync(copy.fileno())
