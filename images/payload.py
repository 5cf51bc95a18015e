"""From a raw disk image to the payload of an installation: its index, and its pieces packed end to end.

What they are, and what the installer proves of them, stands in config/payload.py.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zstandard

from config.payload import IMAGE, INDEX, Index, Piece, cuts
from images.manifest import next_data

LONGEST = 4 << 20
"""Bytes of a piece: large enough to pack well, small enough that little is sent again after an interruption."""
LEVEL, RELEASE_LEVEL = 3, 19
"""zstd's. At 19 packing takes longer than all the rest of a build, for an eighth fewer bytes."""
_WORKERS = os.cpu_count() or 1
_ZEROS = bytes(LONGEST)


@dataclass(frozen=True)
class _Packed:
    at: int
    size: int
    frame: bytes
    sha256: str


def pack(raw: Path, directory: Path, *, key: str, root_uuid: str, root_start: int, level: int = LEVEL) -> Index:
    """Write index.json and image.zst of a raw image into directory; key and the root's place are for the index."""
    pieces: list[Piece] = []
    with raw.open("rb") as source, (directory / IMAGE).open("xb") as image:
        fd, size = source.fileno(), os.fstat(source.fileno()).st_size
        for packed in _in_parallel(fd, list(_with_data(fd, size)), level):
            length = len(packed.frame)
            place = Piece(
                at=packed.at, size=packed.size, packed_at=image.tell(), packed_size=length, sha256=packed.sha256
            )
            pieces.append(place)
            image.write(packed.frame)
    index = Index(key=key, root_uuid=root_uuid, disk_size=size, root_start=root_start, pieces=tuple(pieces))
    (directory / INDEX).write_text(index.to_json())
    return index


def _with_data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The stretches that are not all hole: what was never written need not be read."""
    return ((at, length) for at, length in cuts(size, LONGEST) if next_data(fd, at, size) < at + length)


def _in_parallel(fd: int, stretches: list[tuple[int, int]], level: int) -> Iterator[_Packed]:
    """The stretches packed, in their order, and without those that turn out to be all zero."""
    waiting: deque[Future[_Packed | None]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for at, length in stretches:
            waiting.append(pool.submit(_pack_one, fd, at, length, level))
            # As many in memory as keep every worker busy.
            while len(waiting) > 2 * _WORKERS:
                if (packed := waiting.popleft().result()) is not None:
                    yield packed
        yield from (packed for future in waiting if (packed := future.result()) is not None)


def _pack_one(fd: int, at: int, length: int, level: int) -> _Packed | None:
    data = os.pread(fd, length, at)
    if data == _ZEROS[:length]:
        return None
    frame = zstandard.ZstdCompressor(level=level).compress(data)
    return _Packed(at, length, frame, hashlib.sha256(frame).hexdigest())
