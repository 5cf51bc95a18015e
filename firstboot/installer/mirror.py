"""The mirror of two system disks, before either has a partition table: made of the places where root will be.

Superblocks of version 1.0 stand at the end of each half, so what was written as a file system stays one, and is the
mirror's; the kernel copies the first half to the second one from then on, and goes on with that when the node boots.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from config.door import run
from firstboot import observe
from firstboot.installer.devices import looped
from firstboot.installer.table import Table
from firstboot.plan import mirror
from firstboot.probe.disks import BlockDevice

ROOM = 1 << 20
"""Bytes that a disk needs beyond the image's: the superblock and the bitmap stand behind the file system."""


def record(disks: Sequence[BlockDevice], tables: Sequence[Table]) -> mirror.Mirror:
    """A new mirror of these two disks."""
    first, second = (mirror.Half(disk.serial, table.root_partuuid) for disk, table in zip(disks, tables, strict=True))
    return mirror.Mirror(mirror.new_array(), (first, second))


@contextlib.contextmanager
def mirrored_root(
    made: mirror.Mirror, disks: Sequence[BlockDevice], tables: Sequence[Table], root_start: int
) -> Iterator[Path]:
    """The mirror as a block device, for as long as a block of code needs it."""
    run(["modprobe", "raid1"])
    with contextlib.ExitStack() as stack:
        places = [
            stack.enter_context(looped(Path(disk.path), offset=root_start, size=table.root_size))
            for disk, table in zip(disks, tables, strict=True)
        ]
        run(mirror.create_argv("system", made.array, places))
        device = Path("/dev/md", mirror.array_name("system"))
        try:
            observe.settle()
            yield device
        finally:
            run(["mdadm", "--stop", device])


def release(disk: BlockDevice) -> None:
    """Stop what the initramfs has put together of that disk: the mirror of an earlier system. Nobody has mounted it."""
    names = [Path(device.path).name for device in disk.walk() if device.type in ("disk", "part")]
    for holder in {holder for name in names for holder in observe.holders(name)}:
        if holder.startswith("md"):
            run(["mdadm", "--stop", Path("/dev", holder)])
