"""The one door for changes of LVM's metadata: each is on the disk, and not in a cache of that, before it counts."""

from __future__ import annotations

from pathlib import Path

from config.door import run
from firstboot import observe


def change(*argv: str | Path) -> None:
    """Run one of LVM's commands that write metadata. Raises CommandError.

    LVM never has the disk flush its cache (seen in the kernel's trace of lvm2 2.03.31). DRBD does on the receiving side
    alone, so without this a loss of both nodes' power takes the change back where it was made, and DRBD may then copy
    from there.
    """
    run(argv)
    run(["sync", observe.DRBD_DEVICE])
