"""The image on its way to the disk: each frame read and proven, unpacked by one zstd, and each piece written.

Three threads share the work, and what they do with bytes is done outside of Python: so the source is read while zstd
unpacks, and zstd unpacks while the disk writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import IO

from config.door import kill_group, stream
from config.errors import XenpairError
from config.payload import EDGE, IMAGE, Index, Piece
from firstboot.errors import ImageError, InstallError
from firstboot.installer.source import Stream
from firstboot.installer.target import Target

BUFFERS = 3
"""Pieces in memory: one that is unpacked, one that is written, and one between them."""
HINT = "the disk does not boot; write the medium anew, or build the image again, then try again"


def pour(index: Index, image: Stream, target: Target, progress: Callable[[int], None]) -> dict[int, bytes]:
    """Write all pieces that need not be withheld, and zero the holes between them; return the others by their place.

    progress is told the bytes of all pieces so far. Raises ImageError for a frame that is not what the index says,
    InstallError or RefusedError where the source cannot be read, OSError where the disk cannot be written.
    """
    withheld: dict[int, bytes] = {}
    with tempfile.TemporaryFile() as errors:
        process = stream(["zstd", "-dcq"], talk=True, errors=errors)
        if process.stdin is None or process.stdout is None:
            raise InstallError("zstd was started without its pipes")
        feeder = _Feeder(index, image, process.stdin)
        writer = _Writer(target, max(piece.size for piece in index.pieces))
        try:
            done = 0
            for at, length, piece in _stretches(index):
                if piece is None:
                    writer.zero(at, length)
                    continue
                view = writer.buffer()[:length]
                if not _fill(process.stdout, view):
                    raise _ShortError
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
        except _ShortError:
            feeder.join()
            raise feeder.error or ImageError(
                f"{IMAGE} cannot be unpacked: {_said(errors) or 'zstd ended early'}", hint=HINT
            ) from None
        finally:
            kill_group(process)
            process.stdout.close()
            feeder.stop()
            writer.stop()
    return withheld


class _ShortError(Exception):
    """zstd had less to give than the piece has bytes; why, the feeder knows, or zstd has said it."""


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


class _Feeder(threading.Thread):
    """Reads frames, proves them, and hands them to zstd; closes its input at the end, or where one is not right."""

    def __init__(self, index: Index, image: Stream, unpack: IO[bytes]) -> None:
        super().__init__(name="feeder", daemon=True)
        self._index = index
        self._image = image
        self._unpack = unpack
        self.error: XenpairError | None = None
        self.start()

    def run(self) -> None:
        buffer = memoryview(bytearray(max(piece.packed_size for piece in self._index.pieces)))
        try:
            for piece in self._index.pieces:
                frame = buffer[: piece.packed_size]
                self._read(piece, frame)
                _prove(piece, frame)
                self._pass_on(frame)
        except XenpairError as e:
            self.error = e
        except BrokenPipeError:
            # zstd has ended, and says why.
            pass
        except OSError as e:
            self.error = InstallError(f"{IMAGE} cannot be read: {e.strerror}", hint=HINT)
        finally:
            self._image.close()
            with contextlib.suppress(OSError):
                self._unpack.close()

    def stop(self) -> None:
        """zstd is gone already; a source that is waited for is told so."""
        self.join(1.0)
        if self.is_alive():
            self._image.close()

    def _read(self, piece: Piece, frame: memoryview) -> None:
        at = 0
        while at < len(frame):
            count = self._image.readinto(frame[at:])
            if not count:
                raise ImageError(
                    f"{IMAGE} is cut off: it ends at byte {piece.packed_at + at}, in the piece for byte {piece.at} of "
                    f"the disk, and its index says {self._index.packed_size} bytes",
                    hint=HINT,
                )
            at += count

    def _pass_on(self, frame: memoryview) -> None:
        while frame:
            frame = frame[os.write(self._unpack.fileno(), frame) :]


def _prove(piece: Piece, frame: memoryview) -> None:
    found = hashlib.sha256(frame).hexdigest()
    if found != piece.sha256:
        raise ImageError(
            f"{IMAGE} is damaged: bytes {piece.packed_at} to {piece.packed_at + piece.packed_size}, the piece for byte "
            f"{piece.at} of the disk, have the sha256 {found}, and should have {piece.sha256}",
            hint=HINT,
        )


class _Writer(threading.Thread):
    """Writes and zeroes in the order in which it is told, from buffers that it lends."""

    def __init__(self, target: Target, longest: int) -> None:
        super().__init__(name="writer", daemon=True)
        self._target = target
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(memoryview(mmap.mmap(-1, longest)))
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._error: OSError | None = None
        self.start()

    def buffer(self) -> memoryview:
        """One that is free, at its full length. Raises OSError where an earlier write has failed."""
        view = self._free.get()
        if self._error is not None:
            raise self._error
        return view

    def give_back(self, view: memoryview) -> None:
        """Of buffer(), or a part of it."""
        self._free.put(memoryview(view.obj))

    def write(self, at: int, view: memoryview) -> None:
        """And give the buffer back then."""

        def work() -> None:
            try:
                self._target.write(at, view)
            finally:
                self.give_back(view)

        self._work.put(work)

    def zero(self, at: int, length: int) -> None:
        """Make bytes of the disk zero."""
        self._work.put(lambda: self._target.zero(at, length))

    def finish(self) -> None:
        """Return once all of it is on the disk. Raises OSError."""
        self._work.put(self._target.flush)
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """What was begun is ended."""
        self._work.put(None)
        self.join()

    def run(self) -> None:
        while (work := self._work.get()) is not None:
            if self._error is None:
                try:
                    work()
                except OSError as e:
                    self._error = e
                    self._free.put(memoryview(b""))
