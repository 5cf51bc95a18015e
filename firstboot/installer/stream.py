"""The image on its way to the disk: each frame read and proven, unpacked by one zstd, and each piece written.

Three threads share the work, and what they do with bytes is done outside of Python: so the source is read while zstd
unpacks, and zstd unpacks while the disk writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

from config.door import kill_group, stream
from config.payload import EDGE, IMAGE, Index, Piece
from firstboot.errors import ImageError, InstallError
from firstboot.installer.source import Stream
from firstboot.installer.target import Mirrored, Target

BUFFERS = 3
"""Pieces in memory: one that is unpacked, one that is written, and one between them."""
PIPE = 1 << 20
"""Bytes that a pipe holds, as many as anybody may ask for (pipe(7)): with 64 KiB, zstd and we would wait in turns."""
HINT = "the disk does not boot; write the medium anew, or build the image again, then try again"


def pour(index: Index, image: Stream, target: Target | Mirrored, progress: Callable[[int], None]) -> dict[int, bytes]:
    """Write all pieces that need not be withheld, and zero the holes between them; return the others by their place.

    progress is told the bytes of all pieces so far. Raises ImageError for a frame that is not what the index says,
    InstallError or RefusedError where the source cannot be read, OSError where the disk cannot be written.
    """
    withheld: dict[int, bytes] = {}
    with tempfile.TemporaryFile() as errors, contextlib.ExitStack() as stack:
        process = stream(["zstd", "-dcq"], talk=True, errors=errors)
        if process.stdin is None or process.stdout is None:
            raise InstallError("zstd was started without its pipes")
        stack.callback(process.stdout.close)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
        writer = stack.enter_context(_Writer(target, max(piece.size for piece in index.pieces)))
        reader = ThreadPoolExecutor(1, "reader")
        # Nobody waits for a source that does not answer.
        stack.callback(reader.shutdown, wait=False)
        stack.callback(image.close)
        stack.callback(kill_group, process)
        feeding = reader.submit(_feed, index, image, process.stdin)
        done = 0
        for at, length, piece in _stretches(index):
            if piece is None:
                writer.zero(at, length)
                continue
            view = writer.buffer()[:length]
            if not _fill(process.stdout, view):
                feeding.result()
                raise ImageError(f"{IMAGE} cannot be unpacked: {_said(errors) or 'zstd ended early'}", hint=HINT)
            if index.is_withheld(piece):
                withheld[at] = bytes(view)
                writer.give_back(view)
            else:
                writer.write(at, view)
            done += length
            progress(done)
        writer.finish()
        if process.stdout.read(1):
            raise ImageError(f"{IMAGE} unpacks to more than its index says", hint=HINT)
    return withheld


def _stretches(index: Index) -> Iterator[tuple[int, int, Piece | None]]:
    """Pieces and holes in the order of the disk; no hole where all is withheld."""
    first, last = EDGE, index.disk_size - EDGE
    holes = ((max(at, first), min(at + length, last)) for at, length in index.holes())
    found: list[tuple[int, int, Piece | None]] = [(at, end - at, None) for at, end in holes if at < end]
    found += [(piece.at, piece.size, piece) for piece in index.pieces]
    return iter(sorted(found, key=lambda stretch: stretch[0]))


def _fill(source: IO[bytes], view: memoryview) -> bool:
    while view:
        count = os.readv(source.fileno(), [view])
        if not count:
            return False
        view = view[count:]
    return True


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    return " ".join(errors.read(2000).decode(errors="replace").split())


def _feed(index: Index, image: Stream, unpack: IO[bytes]) -> None:
    """Hand each frame to zstd as soon as it is proven, and end its input at the end, or where one is not right."""
    buffer = memoryview(bytearray(max(piece.packed_size for piece in index.pieces)))
    try:
        for piece in index.pieces:
            frame = buffer[: piece.packed_size]
            _read(index, piece, image, frame)
            _prove(piece, frame)
            while frame:
                frame = frame[os.write(unpack.fileno(), frame) :]
    except BrokenPipeError:
        # zstd has ended, and says why.
        pass
    finally:
        with contextlib.suppress(BrokenPipeError):
            unpack.close()


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


def _prove(piece: Piece, frame: memoryview) -> None:
    found = hashlib.sha256(frame).hexdigest()
    if found != piece.sha256:
        raise ImageError(
            f"{IMAGE} is damaged: bytes {piece.packed_at} to {piece.packed_at + piece.packed_size}, the piece for byte "
            f"{piece.at} of the disk, have the sha256 {found}, and should have {piece.sha256}",
            hint=HINT,
        )


class _Writer:
    """Writes and zeroes in the order in which it is told, in a thread of its own, from buffers that it lends."""

    def __init__(self, target: Target | Mirrored, longest: int) -> None:
        self._target = target
        self._thread = ThreadPoolExecutor(1, "writer")
        self._free: deque[memoryview] = deque(memoryview(mmap.mmap(-1, longest)) for _ in range(BUFFERS))
        self._begun: deque[tuple[Future[None], memoryview | None]] = deque()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def buffer(self) -> memoryview:
        """One that is free. Raises what an earlier write has raised."""
        while self._begun and (self._begun[0][0].done() or not self._free):
            self._end_first()
        return self._free.popleft()

    def give_back(self, view: memoryview) -> None:
        """A buffer, or the part of it that was used."""
        self._free.append(memoryview(view.obj))

    def write(self, at: int, view: memoryview) -> None:
        """Put a buffer's bytes at that place of the disk, and give it back then."""
        self._begun.append((self._thread.submit(self._target.write, at, view), view))

    def zero(self, at: int, length: int) -> None:
        """Make bytes of the disk zero."""
        self._begun.append((self._thread.submit(self._target.zero, at, length), None))

    def finish(self) -> None:
        """Return once all of it is on the disk; raises as buffer() does."""
        while self._begun:
            self._end_first()
        self._target.flush()

    def _end_first(self) -> None:
        work, view = self._begun.popleft()
        work.result()
        if view is not None:
            self.give_back(view)
