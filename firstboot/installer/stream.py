"""The image on its way to the disk: each frame read, proven, unpacked and written.

One thread reads. All else that is done with a frame is done outside of Python's lock, by as many threads as the machine
has processors and one more: so frames are unpacked side by side, while others are read and written.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from config.payload import EDGE, IMAGE, Index, Piece
from firstboot.errors import ImageError, InstallError
from firstboot.installer.source import Stream
from firstboot.installer.target import Mirrored, Target
from firstboot.installer.zstd import unpack

MOST_WORKERS = 8
"""No disk takes what more of them unpack; each has two pieces of memory."""
AHEAD = 2
"""Frames that are read while all workers are busy."""
HINT = "the disk does not boot; write the medium anew, or build the image again, then try again"


def pour(index: Index, image: Stream, target: Target | Mirrored, progress: Callable[[int], None]) -> dict[int, bytes]:
    """Write all pieces that need not be withheld, and zero the holes between them; return the others by their place.

    progress is told the bytes of all pieces so far. Raises ImageError for a frame that is not what the index says,
    InstallError or RefusedError where the source cannot be read, OSError where the disk cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(image.close)
        work = stack.enter_context(_Work(index, target, progress))
        for at, length, piece in _stretches(index):
            if piece is None:
                work.zero(at, length)
                continue
            buffer = work.buffer()
            _read(index, piece, image, buffer.packed[: piece.packed_size])
            work.place(piece, buffer)
        withheld = work.finish()
    target.flush()
    return withheld


def _stretches(index: Index) -> Iterator[tuple[int, int, Piece | None]]:
    """Pieces and holes in the order of the disk; no hole where all is withheld."""
    first, last = EDGE, index.disk_size - EDGE
    holes = ((max(at, first), min(at + length, last)) for at, length in index.holes())
    found: list[tuple[int, int, Piece | None]] = [(at, end - at, None) for at, end in holes if at < end]
    found += [(piece.at, piece.size, piece) for piece in index.pieces]
    return iter(sorted(found, key=lambda stretch: stretch[0]))


def _read(index: Index, piece: Piece, image: Stream, frame: memoryview) -> None:
    at = 0
    while at < len(frame):
        try:
            count = image.readinto(frame[at:])
        except OSError as e:
            raise InstallError(f"{IMAGE} cannot be read at byte {piece.packed_at + at}: {e.strerror}", hint=HINT) from e
        if not count:
            raise ImageError(
                f"{IMAGE} is cut off: it ends at byte {piece.packed_at + at}, in the piece for byte {piece.at} of the "
                f"disk, and its index says {index.packed_size} bytes",
                hint=HINT,
            )
        at += count


@dataclass(frozen=True)
class _Buffer:
    """Memory for one piece: its frame, and what that unpacks to, which begins at a page (see Target.write)."""

    packed: memoryview
    plain: memoryview

    @classmethod
    def of(cls, index: Index) -> _Buffer:
        """For any piece of that index."""
        packed = max(piece.packed_size for piece in index.pieces)
        plain = max(piece.size for piece in index.pieces)
        return cls(memoryview(bytearray(packed)), memoryview(mmap.mmap(-1, plain)))


@dataclass(frozen=True)
class _Begun:
    """A stretch in work: its piece and that one's memory, or neither for a hole."""

    future: Future[bytes | None]
    piece: Piece | None = None
    buffer: _Buffer | None = None


class _Work:
    """What is done with frames that are read, side by side; told of, and failed, in the order of the disk."""

    def __init__(self, index: Index, target: Target | Mirrored, progress: Callable[[int], None]) -> None:
        self._index, self._target, self._progress = index, target, progress
        # One more than there are processors: one may wait for the disk.
        workers = min(os.cpu_count() or 1, MOST_WORKERS) + 1
        self._threads = ThreadPoolExecutor(workers, "frame")
        self._free = deque(_Buffer.of(index) for _ in range(workers + AHEAD))
        self._begun: deque[_Begun] = deque()
        self._withheld: dict[int, bytes] = {}
        self._done = 0

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing is written any more once this has returned.
        self._threads.shutdown(cancel_futures=True)

    def buffer(self) -> _Buffer:
        """One that is free. Raises what an earlier stretch has raised."""
        while self._begun and (self._begun[0].future.done() or not self._free):
            self._end_first()
        return self._free.popleft()

    def place(self, piece: Piece, buffer: _Buffer) -> None:
        """Prove and unpack the frame in a buffer, and write it, or keep it where it is to be withheld."""
        self._begun.append(_Begun(self._threads.submit(self._place, piece, buffer), piece, buffer))

    def zero(self, at: int, length: int) -> None:
        """Make bytes of the disk zero."""
        self._begun.append(_Begun(self._threads.submit(self._target.zero, at, length)))

    def finish(self) -> dict[int, bytes]:
        """What is withheld, by its place, once all else is written; raises as buffer() does."""
        while self._begun:
            self._end_first()
        return self._withheld

    def _place(self, piece: Piece, buffer: _Buffer) -> bytes | None:
        frame, plain = buffer.packed[: piece.packed_size], buffer.plain[: piece.size]
        _prove(piece, frame)
        _unpack(piece, frame, plain)
        if self._index.is_withheld(piece):
            return bytes(plain)
        self._target.write(piece.at, plain)
        return None

    def _end_first(self) -> None:
        begun = self._begun.popleft()
        content = begun.future.result()
        if begun.piece is None or begun.buffer is None:
            return
        self._free.append(begun.buffer)
        if content is not None:
            self._withheld[begun.piece.at] = content
        self._done += begun.piece.size
        self._progress(self._done)


def _prove(piece: Piece, frame: memoryview) -> None:
    found = hashlib.sha256(frame).hexdigest()
    if found != piece.sha256:
        raise ImageError(
            f"{IMAGE} is damaged: bytes {piece.packed_at} to {piece.packed_at + piece.packed_size}, the piece for byte "
            f"{piece.at} of the disk, have the sha256 {found}, and should have {piece.sha256}",
            hint=HINT,
        )


def _unpack(piece: Piece, frame: memoryview, plain: memoryview) -> None:
    try:
        count = unpack(frame, plain)
    except ImageError as e:
        raise ImageError(f"{IMAGE} cannot be unpacked: the piece for byte {piece.at}: {e.message}", hint=HINT) from e
    if count != len(plain):
        said = f"the piece for byte {piece.at} has {count} bytes, and its index says {len(plain)}"
        raise ImageError(f"{IMAGE} cannot be unpacked: {said}", hint=HINT)
