"""What a side wrote without its peer: read off DRBD's metadata, on what the real drbdmeta has written and applied."""

from __future__ import annotations

import gzip
import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstboot import below
from firstboot.blocks import BLOCK, Blocks
from firstboot.errors import ProbeError
from firstboot.probe import metadata as md
from firstboot.probe.lvm import parse_segments

PARTITION = 256 << 20
"""Bytes of the partition whose end was captured: bitmap, activity log, superblock."""


@pytest.fixture
def tail(captured: Path) -> bytes:
    """Its last bytes, as they were before `drbdmeta apply-al`."""
    return gzip.decompress((captured / "drbd-metadata.bin.gz").read_bytes())


@pytest.fixture
def layout(tail: bytes) -> md.Layout:
    return md.parse_superblock(tail[-md.SUPERBLOCK :], md.superblock_start(PARTITION))


def part(tail: bytes, start: int, length: int) -> bytes:
    at = start - (PARTITION - len(tail))
    return tail[at : at + length]


def bits_of_dump(text: str) -> set[int]:
    """Bits that drbdmeta's own dump of the bitmap shows, words of 64 with repetitions."""
    bits: set[int] = set()
    word = 0
    body = text[text.index("bm {") : text.rindex("}")]
    for times, value in re.findall(r"(?:(\d+) times )?0x([0-9A-F]{16});", body):
        for _ in range(int(times or 1)):
            number = int(value, 16)
            bits |= {word * 64 + bit for bit in range(64) if number >> bit & 1}
            word += 1
    return bits


def numbers(blocks: Blocks) -> set[int]:
    return {number for start, end in blocks.ranges for number in range(start, end)}


def test_bitmap_and_log_together_are_what_drbdmeta_applies(tail: bytes, layout: md.Layout, captured: Path) -> None:
    bitmap = part(tail, layout.bitmap_start, layout.bitmap_size)
    marked = md.parse_bitmap([bitmap[:4096], bitmap[4096:]], layout)
    hot = md.parse_log(part(tail, layout.log_start, layout.log_size), layout)
    assert marked.ranges == ((256, 301), (512, 514), (2049, 2050), (10240, 10242), (65520, 65521))
    assert numbers(marked | hot) == bits_of_dump((captured / "drbd-dump-md-applied.txt").read_text())


def test_it_is_read_off_a_partition_past_drbd(tail: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_DIRECT", 0)  # not every file system has it
    partition = tmp_path / "partition"
    with partition.open("wb") as f:
        f.truncate(PARTITION)
        f.seek(PARTITION - len(tail))
        f.write(tail)
    blocks, marked, hot = below.unreplicated(partition)
    assert (blocks, marked.count, (hot - marked).count) == (65525, 51, 12288)


def test_a_transaction_that_was_cut_short_counts_for_nothing(tail: bytes, layout: md.Layout) -> None:
    log = bytearray(part(tail, layout.log_start, layout.log_size))
    whole = md.parse_log(bytes(log), layout)
    log[3 * 4096 + 100] ^= 1
    assert md.parse_log(bytes(log), layout) != whole
    assert md.parse_log(bytes(layout.log_size), layout) == Blocks()
    with pytest.raises(ProbeError, match="cut short"):
        md.parse_log(b"", layout)


def test_without_a_log_everything_may_have_been_written(tail: bytes) -> None:
    superblock = bytearray(tail[-md.SUPERBLOCK :])
    superblock[58] = 1  # MDF_AL_DISABLED
    layout = md.parse_superblock(bytes(superblock), md.superblock_start(PARTITION))
    assert md.parse_log(b"", layout).count == layout.blocks


@pytest.mark.parametrize("data", [b"", bytes(4096), b"\xff" * 4096])
def test_what_is_no_superblock_of_drbd_is_refused(data: bytes) -> None:
    with pytest.raises(ProbeError):
        md.parse_superblock(data, 0)


def test_a_volume_lies_where_its_pieces_lie(captured: Path) -> None:
    found = parse_segments((captured / "pvs-segments.json").read_text(), "data")
    assert (found.seqno, found.data_start) == (6, 1 << 20)
    kept, web01, db01 = found.volumes
    assert (kept.name, kept.pieces) == ("kept", ((1 << 20, 9 << 20), (37 << 20, 45 << 20)))
    assert (web01.blocks.count, db01.blocks.count) == (12 * 256, 16 * 256)
    with pytest.raises(ProbeError, match="other"):
        parse_segments((captured / "pvs-segments.json").read_text(), "other")


ranges = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=12)


@settings(deadline=None)
@given(ranges, ranges)
def test_blocks_are_sets(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    first, second = Blocks.of(one), Blocks.of(two)
    mine = {number for start, end in one for number in range(start, end)}
    theirs = {number for start, end in two for number in range(start, end)}
    assert numbers(first) == mine
    assert first.count == len(mine)
    assert numbers(first & second) == mine & theirs
    assert numbers(first | second) == mine | theirs
    assert numbers(first - second) == mine - theirs
    assert first - second == Blocks.of((first - second).ranges)


@settings(deadline=None)
@given(st.binary(max_size=5000), st.integers(0, 9))
def test_a_bitmap_is_read_bit_by_bit(bitmap: bytes, first: int) -> None:
    expected = {first + 8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}
    assert numbers(Blocks.of_bitmap(bitmap, first)) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 40 * BLOCK), min_size=1, max_size=10))
def test_areas_that_adjoin_share_no_block(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 40 * BLOCK]
    pieces = [Blocks.of_bytes(start, end) for start, end in itertools.pairwise(edges)]
    assert sum(piece.count for piece in pieces) == 40
