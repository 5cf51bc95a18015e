"""Initramfs archives: cpio in its "newc" format (cpio(5); Documentation/driver-api/early-userspace/buffer-format.rst).

The same tree always gives the same bytes: sorted, owned by root, without times.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import zstandard

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"


def pack(root: Path, archive: Path, *, level: int) -> None:
    """Everything below root as an archive of one zstd frame. Plain files, directories and symbolic links only."""
    with archive.open("xb") as f, zstandard.ZstdCompressor(level=level, threads=-1).stream_writer(f) as packed:
        for chunk in newc(root):
            packed.write(chunk)


def newc(root: Path) -> Iterator[bytes]:
    """The archive, member by member; a directory comes before what is in it, as the kernel wants it."""
    number = 0
    for number, path in enumerate(sorted(root.rglob("*")), start=1):
        name, found = str(path.relative_to(root)), path.lstat()
        if stat.S_ISLNK(found.st_mode):
            yield _member(number, name, stat.S_IFLNK | 0o777, str(path.readlink()).encode())
        elif stat.S_ISDIR(found.st_mode):
            yield _member(number, name, stat.S_IFDIR | 0o755, b"")
        else:
            yield _member(number, name, stat.S_IFREG | (0o755 if found.st_mode & 0o100 else 0o644), path.read_bytes())
    yield _member(0, _TRAILER, 0, b"")


def _member(number: int, name: str, mode: int, data: bytes) -> bytes:
    """number stands for the inode; 0s: uid, gid, time, and the device numbers; one link; the check sum is unused."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = (_MAGIC + "".join(f"{field:08x}" for field in fields)).encode() + encoded
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
