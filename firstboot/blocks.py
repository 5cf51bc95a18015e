"""Sets of 4-KiB blocks of the replicated device: the unit in which DRBD remembers what was written without the peer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

BLOCK = 4096
"""Bytes that one bit of DRBD's bitmap stands for (drbd_int.h, BM_BLOCK_SHIFT)."""

SECTOR = 512
"""Bytes: the unit of a size in sysfs and in DRBD's metadata, whatever a disk's own sectors are (linux/blk_types.h)."""

_CHUNK = 1024
"""Bytes of a bitmap that are looked at as one number: most of a bitmap is zero, and is passed over at that step."""


@dataclass(frozen=True)
class Blocks:
    """Ranges of block numbers, the end excluded: sorted, apart from each other, none empty."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> Blocks:
        """From ranges in any order, which may overlap."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if start >= end:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        return cls(tuple(merged))

    @classmethod
    def of_bytes(cls, start: int, end: int) -> Blocks:
        """The blocks whose first byte lies between two byte offsets, so that adjoining areas share no block."""
        return cls.of([(-(-start // BLOCK), -(-end // BLOCK))])

    @classmethod
    def of_bitmap(cls, bitmap: bytes, first: int = 0) -> Blocks:
        """From a bitmap whose lowest bit stands for the block number first (little-endian, as DRBD's on disk)."""
        return cls.of(
            (first + at * 8 + start, first + at * 8 + end)
            for at in range(0, len(bitmap), _CHUNK)
            for start, end in _runs(int.from_bytes(bitmap[at : at + _CHUNK], "little"))
        )

    @property
    def count(self) -> int:
        """How many blocks."""
        return sum(end - start for start, end in self.ranges)

    def __and__(self, other: Blocks) -> Blocks:
        return Blocks(tuple(_common(self.ranges, other.ranges)))

    def __or__(self, other: Blocks) -> Blocks:
        return Blocks.of((*self.ranges, *other.ranges))

    def __sub__(self, other: Blocks) -> Blocks:
        found: list[tuple[int, int]] = []
        taken = list(_common(self.ranges, other.ranges))
        number = 0
        for start, end in self.ranges:
            at = start
            while number < len(taken) and taken[number][0] < end:
                found.append((at, taken[number][0]))
                at = taken[number][1]
                number += 1
            found.append((at, end))
        return Blocks(tuple((start, end) for start, end in found if start < end))

    def __bool__(self) -> bool:
        return bool(self.ranges)


def _runs(bits: int) -> Iterator[tuple[int, int]]:
    """Each run of ones in a number, by the places where a one begins and where it ends."""
    edges = bits ^ (bits << 1)
    while edges:
        start = edges & -edges
        edges ^= start
        end = edges & -edges
        edges ^= end
        yield start.bit_length() - 1, end.bit_length() - 1


def _common(one: tuple[tuple[int, int], ...], two: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    first = second = 0
    while first < len(one) and second < len(two):
        start, end = max(one[first][0], two[second][0]), min(one[first][1], two[second][1])
        if start < end:
            yield start, end
        if one[first][1] < two[second][1]:
            first += 1
        else:
            second += 1
