"""Runs on a node, fed to its python3: writes numbered sectors one after another, or looks which of them are there.

    python3 - write DEVICE TAG     prints each number that is acknowledged, and the node's clock, until STOP exists
    python3 - check DEVICE TAG N   prints how many of the first N sectors hold their numbers, up to one that does not

Standard library only.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

SECTOR = 512
"""Bytes: the logical block of the lab's disks, and DRBD's unit."""
STOP = "/run/campaign.stop"
PAUSE = 0.1
"""Seconds between two writes: enough of them to find the instant of a pause, and few enough for an emulated node."""
CHUNK = 128
"""Sectors read at once."""


def content(tag: str, number: int) -> bytes:
    """What the sector of that number holds."""
    return f"{tag} {number}\n".encode().ljust(SECTOR, b".")


def write(device: str, tag: str) -> None:
    """Past all caches (O_DIRECT), and acknowledged only from stable storage (O_DSYNC)."""
    fd = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_DSYNC)
    sectors = os.lseek(fd, 0, os.SEEK_END) // SECTOR
    page = mmap.mmap(-1, SECTOR)
    for number in range(sectors):
        if os.path.exists(STOP):  # noqa: PTH110 -- pathlib costs an emulated node a second
            return
        page[:] = content(tag, number)
        os.pwrite(fd, page, number * SECTOR)
        sys.stdout.write(f"{number} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}\n")
        sys.stdout.flush()
        time.sleep(PAUSE)


def intact(device: str, tag: str, count: int) -> int:
    """How many sectors, from the first on, hold what was written; at most count."""
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
    page = mmap.mmap(-1, CHUNK * SECTOR)
    for first in range(0, count, CHUNK):
        os.preadv(fd, [page], first * SECTOR)
        for number in range(first, min(first + CHUNK, count)):
            start = (number - first) * SECTOR
            if page[start : start + SECTOR] != content(tag, number):
                return number
    return count


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:4])
    else:
        sys.stdout.write(f"{intact(sys.argv[2], sys.argv[3], int(sys.argv[4]))}\n")
