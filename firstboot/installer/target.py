"""The disk that is installed onto: held by this program alone, written past the page cache where that goes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from firstboot.errors import SystemDiskError

BLKZEROOUT = 0x127F
"""linux/fs.h: _IO(0x12, 127), with the first byte and the number of bytes; a disk that can does it by itself."""
AT_ONCE = 256 << 20
"""Bytes that the kernel is asked to zero in one call: on a disk that has to write them, a second or two."""
DIRECT = 4096
"""Bytes that place and length have to be multiples of, to be written past the page cache of any disk."""


class Target:
    """An opened disk, or a file that stands for one."""

    def __init__(self, fd: int, direct: int, size: int, *, is_device: bool) -> None:
        self._fd = fd
        self._direct = direct
        self._is_device = is_device
        self.size = size

    def write(self, at: int, content: memoryview | bytes) -> None:
        """Put bytes at a place. Raises OSError."""
        view = memoryview(content)
        # Memory of mmap begins at a page, other memory anywhere.
        aligned = isinstance(view.obj, mmap.mmap) and not (at % DIRECT or len(view) % DIRECT)
        while view:
            done = os.pwrite(self._direct if aligned else self._fd, view, at)
            at, view, aligned = at + done, view[done:], aligned and not done % DIRECT

    def zero(self, at: int, length: int) -> None:
        """Make bytes zero. Raises OSError."""
        for begin in range(at, at + length, AT_ONCE):
            self._zero(begin, min(AT_ONCE, at + length - begin))

    def flush(self) -> None:
        """Return once all that was written is on the disk."""
        os.fdatasync(self._fd)

    def _zero(self, at: int, length: int) -> None:
        if self._is_device:
            fcntl.ioctl(self._fd, BLKZEROOUT, struct.pack("QQ", at, length))
            return
        nothing = memoryview(bytes(min(length, 1 << 20)))
        for begin in range(at, at + length, len(nothing)):
            self.write(begin, nothing[: at + length - begin])


class Mirrored:
    """Two disks that get the same, one after the other."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets

    def write(self, at: int, content: memoryview | bytes) -> None:
        """Put bytes at a place of each. Raises OSError."""
        for target in self._targets:
            target.write(at, content)

    def zero(self, at: int, length: int) -> None:
        """Make bytes of each zero. Raises OSError."""
        for target in self._targets:
            target.zero(at, length)

    def flush(self) -> None:
        """Return once all that was written is on both."""
        for target in self._targets:
            target.flush()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Target]:
    """That disk, which nobody else can mount or take into use meanwhile. Raises SystemDiskError where somebody has."""
    is_device = stat.S_ISBLK(path.stat().st_mode)
    # open(2): without O_CREAT, O_EXCL on a block device is refused with EBUSY while the kernel uses it.
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if is_device else 0))
    except OSError as e:
        if e.errno != errno.EBUSY:
            raise
        raise SystemDiskError(f"{path} is in use by something else", hint="see `lsblk`; then try again") from e
    direct = fd
    with contextlib.suppress(OSError):
        direct = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
    try:
        yield Target(fd, direct, os.lseek(fd, 0, os.SEEK_END), is_device=is_device)
    finally:
        os.close(fd)
        if direct != fd:
            os.close(direct)
