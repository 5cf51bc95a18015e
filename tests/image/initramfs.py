"""Initramfs archives, unpacked as the kernel does it: one over the other, and what is in the way goes."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import zstandard

_NEWC = b"070701"


def unpack(data: bytes, root: Path) -> None:
    """All archives of a buffer, plain or packed with zstd (buffer-format.rst), below root."""
    while data := data.lstrip(b"\0"):
        if data.startswith(_NEWC):
            data = data[_unpack_one(data, root) :]
        else:
            unpacker = zstandard.ZstdDecompressor().decompressobj()
            _unpack_one(unpacker.decompress(data), root)
            data = unpacker.unused_data


def _unpack_one(archive: bytes, root: Path) -> int:
    """One archive; the bytes that it takes."""
    taken = 0
    for name, mode, content, end in _members(archive):
        taken, path = end, root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.is_symlink() or path.exists()
        if there and stat.S_IFMT(path.lstat().st_mode) != stat.S_IFMT(mode):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if stat.S_ISDIR(mode):
            path.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            path.unlink(missing_ok=True)
            path.symlink_to(content.decode())
        elif stat.S_ISREG(mode):
            path.write_bytes(content)
            path.chmod(mode & 0o777)
    return taken


def _members(archive: bytes) -> Iterator[tuple[str, int, bytes, int]]:
    """Name, mode, content, and where the next one begins (cpio(5), new ASCII format)."""
    at = 0
    while True:
        mode, size, length = (int(archive[at + start : at + start + 8], 16) for start in (14, 54, 94))
        name = archive[at + 110 : at + 109 + length].decode()
        content = (at + 110 + length + 3) // 4 * 4
        at = (content + size + 3) // 4 * 4
        if name == "TRAILER!!!":
            yield ".", stat.S_IFDIR | 0o755, b"", at
            return
        yield name.removeprefix("./"), mode, archive[content : content + size], at
