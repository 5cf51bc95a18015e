"""The format of Debian packages (deb(5)): an ar archive of two tar archives, which are read here without dpkg."""

from __future__ import annotations

import contextlib
import io
import lzma
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from config.door import run
from images.errors import BuildError

_MAGIC = b"!<arch>\n"
_HEADER = 60
_CHUNK = 1 << 20


def unpacked(deb: Path, target: Path) -> None:
    """Write the same package with nothing compressed in it, so that dpkg need not do that: it uses one core only.

    What is packed by other means than xz, Debian's own, stays as it is.
    """
    with deb.open("rb") as source, target.open("xb") as f:
        f.write(_MAGIC)
        for name, size in _members(source, deb):
            at = f.tell()
            f.write(bytes(_HEADER))
            if name.endswith(".xz"):
                _decompress(source, size, f)
            else:
                _copy(source, size, f)
            length = f.tell() - at - _HEADER
            f.write(b"\n"[: length % 2])
            f.seek(at)
            # The fields are name, time, uid, gid, mode and size (ar(5)).
            f.write(f"{name.removesuffix('.xz'):<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{length:<10}`\n".encode())
            f.seek(0, io.SEEK_END)


def control(deb: Path) -> str:
    """The paragraph that describes the package."""
    with deb.open("rb") as source:
        for name, size in _members(source, deb):
            if name.startswith("control.tar"):
                packed = io.BytesIO(source.read(size))
                # What Python cannot read, dpkg can.
                with contextlib.suppress(tarfile.ReadError, KeyError), tarfile.open(fileobj=packed) as tar:
                    member = tar.extractfile("./control")
                    return member.read().decode() if member else ""
    return run(["dpkg-deb", "--field", deb]).stdout


def _members(source: IO[bytes], deb: Path) -> Iterator[tuple[str, int]]:
    """Name and size (bytes) of each member, with the file at its begin; the next one is found wherever it is left."""
    if source.read(len(_MAGIC)) != _MAGIC:
        raise BuildError(f"{deb} is no Debian package")
    while header := source.read(_HEADER):
        begin, size = source.tell(), int(header[48:58])
        yield header[:16].decode().rstrip(" /"), size
        source.seek(begin + size + size % 2)


def _copy(source: IO[bytes], size: int, target: IO[bytes]) -> None:
    shutil.copyfileobj(io.BytesIO(source.read(size)), target)


def _decompress(source: IO[bytes], size: int, target: IO[bytes]) -> None:
    decompressor, left = lzma.LZMADecompressor(), size
    while left:
        chunk = source.read(min(left, _CHUNK))
        left -= len(chunk)
        target.write(decompressor.decompress(chunk))
