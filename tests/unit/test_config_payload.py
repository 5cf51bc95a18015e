"""The index of an installation's payload."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from config.payload import ALIGNMENT, EDGE, Index, PayloadError, Piece, cuts, parse_index

DISK = 64 << 20
SUM = "0" * 64


def piece(at: int, size: int, packed_at: int = 0, packed_size: int = 10) -> Piece:
    return Piece(at=at, size=size, packed_at=packed_at, packed_size=packed_size, sha256=SUM)


def index(*pieces: Piece, **other: Any) -> Index:
    values = {"key": "k", "root_uuid": "u", "disk_size": DISK, "root_start": 2 * EDGE, "pieces": pieces}
    return Index(**{**values, **other})


def test_what_makes_a_disk_bootable_is_withheld_and_nothing_else() -> None:
    head, body, tail = piece(0, EDGE), piece(EDGE, EDGE, 10), piece(DISK - EDGE, EDGE, 20)
    whole = index(head, body, tail)
    assert [whole.is_withheld(p) for p in whole.pieces] == [True, False, True]


def test_pieces_and_holes_cover_the_disk_once() -> None:
    whole = index(piece(4096, 4096), piece(2 * EDGE, EDGE, 10))
    stretches = sorted([*whole.holes(), *((p.at, p.size) for p in whole.pieces)])
    assert stretches[0][0] == 0
    assert all(at + size == following for (at, size), (following, _) in itertools.pairwise(stretches))
    assert sum(size for _, size in stretches) == DISK
    assert whole.written_size == 4096 + EDGE
    assert whole.packed_size == 20


def test_cuts_end_at_the_borders_of_what_is_withheld() -> None:
    found = list(cuts(DISK, 4 << 20))
    assert found[0] == (0, EDGE)
    assert found[-1] == (DISK - EDGE, EDGE)
    assert sum(size for _, size in found) == DISK
    assert max(size for _, size in found) <= 4 << 20
    assert all(at % ALIGNMENT == 0 for at, _ in found)


def test_an_index_reads_what_it_wrote() -> None:
    whole = index(piece(0, EDGE), piece(EDGE, EDGE, 10))
    assert parse_index(whole.to_json(), "index.json") == whole


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((piece(EDGE, EDGE), piece(EDGE, EDGE, 10)), "out of order"),
        ((piece(DISK, EDGE),), "beyond the disk"),
        ((piece(100, 4096),), "not cut to 4096"),
        ((piece(0, EDGE), piece(EDGE, EDGE, 99)), "does not follow"),
        ((piece(0, 2 * EDGE),), "written last"),
        ((), "at least 1 item"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(pieces: tuple[Piece, ...], said: str) -> None:
    whole = index(piece(0, EDGE)).model_dump(mode="json")
    whole["pieces"] = [p.model_dump(mode="json") for p in pieces]
    with pytest.raises(PayloadError, match=said):
        parse_index(json.dumps(whole), "index.json")


def test_what_is_no_index_is_named() -> None:
    with pytest.raises(PayloadError, match=r"/medium/index\.json is no index"):
        parse_index(b"\x00 torn", "/medium/index.json")
