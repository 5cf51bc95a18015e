"""Eyes below DRBD: what lies on its backing partition, read while DRBD may be using it. Nothing is changed."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.door import run
from firstboot.blocks import Blocks
from firstboot.errors import ProbeError
from firstboot.probe import metadata as md
from firstboot.probe.lvm import SEGMENTS_OPTIONS, Map, parse_segments

PIECE = 4 << 20
"""Bytes that are read at once of what may be large."""


def backing_partition(resource: str) -> Path:
    """What lies below the replicated device on this node."""
    return Path(run(["drbdadm", "sh-ll-dev", resource]).stdout.strip())


def unreplicated(partition: Path) -> tuple[int, Blocks, Blocks]:
    """Of a partition that DRBD may be using: how many blocks it replicates; which are marked as written without the
    peer; and which may be, because their mark is not on the disk yet.
    """
    with direct(partition) as (fd, size):
        start = md.superblock_start(size)
        layout = md.parse_superblock(read_direct(fd, start, md.SUPERBLOCK), start)
        # The log first: what leaves it in between is marked in the bitmap.
        hot = md.parse_log(read_direct(fd, layout.log_start, layout.log_size), layout)
        marked = md.parse_bitmap(pieces(fd, layout.bitmap_start, layout.bitmap_start + layout.bitmap_size), layout)
    return layout.blocks, marked, hot


def volume_map(partition: Path, volume_group: str) -> Map:
    """Where this side's volumes lie, read below DRBD: above it nobody reads while I/O is frozen, or on a Secondary."""
    only = f'devices {{ global_filter = [ "a|^{partition.resolve()}$|", "r|.*|" ] use_devicesfile = 0 hints = "none" }}'
    report = ["--segments", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", SEGMENTS_OPTIONS]
    return parse_segments(run(["pvs", "--readonly", "--config", only, *report]).stdout, volume_group)


@contextmanager
def direct(device: Path) -> Iterator[tuple[int, int]]:
    """A device opened for reading past the page cache, which does not know what DRBD writes; and its size (bytes)."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        yield fd, os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def read_direct(fd: int, start: int, length: int) -> bytes:
    """That many bytes, both numbers being multiples of 4096. Raises ProbeError where the device ends before."""
    with mmap.mmap(-1, length) as buffer:
        done = os.preadv(fd, [buffer], start)
        if done != length:
            raise ProbeError(f"only {done} of {length} bytes can be read at byte {start}")
        return buffer[:]


def pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """What lies between two byte offsets, without holding all of it in memory; see read_direct."""
    for at in range(start, end, PIECE):
        yield read_direct(fd, at, min(PIECE, end - at))
