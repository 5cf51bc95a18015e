"""DRBD 8.4's metadata as it lies on the disk: superblock, activity log, bitmap.

drbdmeta reads it while the device is down, and a split brain finds it up, often with guests on it. So it is read past
DRBD. The bitmap on the disk lags behind the kernel's: it is written when an extent leaves the activity log
(__al_write_transaction, drbd_actlog.c), and at a demotion. So what is set there was written without the peer, and what
the log holds may have been: the two together are what DRBD itself goes by after a crash (drbdmeta apply-al).

Formats: struct meta_data_on_disk (drbd_main.c), struct al_transaction_on_disk (drbd_actlog.c) of Linux 6.1, and their
reader replay_al_84 in drbdmeta.c of drbd-utils.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from firstboot.blocks import BLOCK, SECTOR, Blocks
from firstboot.errors import ProbeError

SUPERBLOCK = 4096
"""Bytes: the last whole 4 KiB of the partition, with internal metadata."""

_MAGICS = (0x8374026B, 0x8374026C)
"""DRBD_MD_MAGIC_08, and DRBD_MD_MAGIC_84_UNCLEAN: the log has to be applied."""
_AL_DISABLED = 1 << 8
"""MDF_AL_DISABLED: without a log, any block may have been written (drbd.h)."""
_HEADER = struct.Struct(">7Q IIIiIiII II")

_AL_MAGIC = 0x69CB65A2
_AL_INITIALIZED = 0xFFFF
_AL_BLOCK = struct.Struct(">IIIHHHH16x64H64I919I")
_FREE = 0xFFFFFFFF
_EXTENT_BLOCKS = (4 << 20) // BLOCK
"""An extent of the activity log is 4 MiB (AL_EXTENT_SHIFT)."""


@dataclass(frozen=True)
class Layout:
    """Where the parts lie in the partition (bytes), and how many blocks of data the bitmap stands for."""

    log_start: int
    log_size: int
    bitmap_start: int
    blocks: int
    log_disabled: bool = False

    @property
    def bitmap_size(self) -> int:
        """Bytes of the bitmap, in whole 4 KiB as it is read."""
        return -(-self.blocks // (8 * 4096)) * 4096


def superblock_start(partition_size: int) -> int:
    """Byte offset of the superblock in a partition with internal metadata (drbd_md_ss, drbd_int.h)."""
    return (partition_size & ~4095) - SUPERBLOCK


def room(size: int) -> int:
    """Bytes for data on a backing device of that size, with internal metadata (drbd_md_set_sector_offsets, drbd_nl.c).

    Its bitmap has a bit for each block of the whole device; the log has its usual 32 KiB.
    """
    bitmap = -(-size // (8 * BLOCK * 4096)) * 4096
    return superblock_start(size) - 8 * 4096 - bitmap


def parse_superblock(data: bytes, start: int) -> Layout:
    """What the superblock at that byte offset says. Raises ProbeError where it is none of DRBD 8.4."""
    if len(data) < _HEADER.size:
        raise ProbeError(f"DRBD's superblock is cut short: {len(data)} bytes")
    fields = _HEADER.unpack_from(data)
    size, (flags, magic) = fields[0], fields[7:9]
    log, bitmap, bytes_per_bit = fields[10], fields[12], fields[13]
    stripes, stripe_blocks = fields[15:17] if fields[15] else (1, 8)
    if magic not in _MAGICS or bytes_per_bit != BLOCK or not bitmap < log < 0:
        raise ProbeError(f"there is no metadata of DRBD 8.4 at byte {start}: magic {magic:#x}")
    return Layout(
        log_start=start + log * SECTOR,
        log_size=stripes * stripe_blocks * 4096,
        bitmap_start=start + bitmap * SECTOR,
        blocks=-(-size * SECTOR // BLOCK),
        log_disabled=bool(flags & _AL_DISABLED),
    )


def parse_bitmap(pieces: Iterable[bytes], layout: Layout) -> Blocks:
    """Blocks that are marked on the disk, from the bitmap in pieces. The bits behind the last block mean nothing."""
    found: list[tuple[int, int]] = []
    first = 0
    for piece in pieces:
        found += Blocks.of_bitmap(piece, first).ranges
        first += 8 * len(piece)
    return Blocks.of(found) & Blocks.of([(0, layout.blocks)])


def parse_log(data: bytes, layout: Layout) -> Blocks:
    """Blocks of the extents that the activity log holds: being written, or written a while ago.

    Raises ProbeError where the log contradicts itself.
    """
    everything = Blocks.of([(0, layout.blocks)])
    if layout.log_disabled:
        return everything
    transactions = {}
    for at in range(0, layout.log_size, 4096):
        block = data[at : at + 4096]
        if len(block) != 4096:
            raise ProbeError(f"DRBD's activity log is cut short: {len(data)} of {layout.log_size} bytes")
        number, kind, updates = _parse_transaction(block)
        if kind != _AL_INITIALIZED:
            transactions[number] = updates
    extents: dict[int, int] = {}
    # The numbers wrap: the oldest is the one that follows the gap.
    for number in sorted(transactions, key=lambda n: (n - _newest(transactions)) % 2**32 or 2**32):
        extents.update(transactions[number])
    hot = (extent * _EXTENT_BLOCKS for extent in extents.values() if extent != _FREE)
    return Blocks.of((start, start + _EXTENT_BLOCKS) for start in hot) & everything


def _newest(transactions: Mapping[int, object]) -> int:
    """The number that no other one follows within half of the numbers' circle."""
    return next(n for n in transactions if all((other - n) % 2**32 >= 2**31 or other == n for other in transactions))


def _parse_transaction(block: bytes) -> tuple[int, int, dict[int, int]]:
    """Number, kind, and extent by slot of one block of the log; one that was cut short counts as an empty one."""
    fields = _AL_BLOCK.unpack(block)
    magic, number, checksum, kind, count, slots, first = fields[:7]
    if magic != _AL_MAGIC or crc32c(block[:8] + bytes(4) + block[12:]) != checksum:
        return 0, _AL_INITIALIZED, {}
    slot_numbers, extents, context = fields[7:71], fields[71:135], fields[135:]
    found = {first + i: extent for i, extent in enumerate(context) if extent != _FREE or first + i < slots}
    found.update(dict(zip(slot_numbers[:count], extents[:count], strict=True)))
    return number, kind, found


@cache
def _table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc32c(data: bytes, value: int = 0) -> int:
    """Castagnoli's sum as the kernel's crc32c() gives it: from that start value, and not inverted at the end."""
    table = _table()
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value
