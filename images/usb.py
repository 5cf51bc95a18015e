"""`invoke write-usb`: the install medium onto a stick, proven by reading it back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.door import PIECE, kill_group, run, stream
from images import preflight
from images.blockdevices import BlockDevice, block_devices
from images.errors import StickError
from images.progress import Progress
from images.stick import choose, description, summary

Ask = Callable[[str], str]
"""Shows a question, and gives the line that was typed."""

_SECTOR = 512
_BOOT_SIGNATURE = b"\x55\xaa"
"""Ends the first sector of a disk that a BIOS boots from."""
_VOLUME_DESCRIPTOR = 32 << 10
_ISO_9660 = b"\x01CD001"
"""The primary volume descriptor begins with it (ECMA-119, 8.4)."""
_TAIL = 1 << 20
"""Bytes at the end of the stick that are cleared: what an md array or a GPT of before has left there would make the
installer take the stick for something else (md(4), version 1.0: 8 to 12 KiB before the end)."""
_POLL = 0.5
"""Seconds between two looks."""
_PATIENCE = 10.0
"""Seconds for udev to be done with a stick that was just plugged in."""


@dataclass(frozen=True)
class Iso:
    """The file that is to be written. size in bytes, sha256 in hex."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Iso:
        """Raises StickError where there is no such file, or no hybrid ISO in it."""
        try:
            with path.open("rb") as f:
                head = f.read(_VOLUME_DESCRIPTOR + len(_ISO_9660))
                f.seek(0)
                digest = hashlib.file_digest(f, "sha256").hexdigest()
                size = f.tell()
        except OSError as e:
            raise StickError(
                f"{path} cannot be read: {e.strerror}", hint="`invoke build-image --formats iso` makes out/xenpair.iso"
            ) from e
        if not head.endswith(_ISO_9660) or head[_SECTOR - 2 : _SECTOR] != _BOOT_SIGNATURE:
            raise StickError(
                f"{path} is no ISO that boots from a stick",
                hint="`invoke build-image --formats iso` makes one; give that file with --iso",
            )
        return cls(path, size, digest)


def write_usb(iso: Path, device: Path, *, force_fixed: bool, ask: Ask | None, progress: Progress) -> None:
    """Overwrite a stick with an ISO, and prove that it holds each byte of it.

    device is resolved, so names like /dev/disk/by-id/... do. ask: how to have the device's name typed; None where that
    was answered beforehand. Raises StickError: before anything is changed where the device is not one to be written to,
    and afterwards where it holds something else than what was written.
    """
    if lacking := preflight.missing(preflight.WRITE_USB):
        raise StickError(f"this host lacks {', '.join(lacking)}", hint=preflight.install_command(lacking.values()))
    image = Iso.read(iso)
    disk = _chosen(device, image, force_fixed=force_fixed)
    progress.note(f"{description(disk)}\nAll of it will be overwritten with {iso} ({image.size} bytes).")
    if ask is not None:
        _have_typed(disk, ask)
    with _held(Path(disk.path)) as fd:
        if _chosen(device, image, force_fixed=force_fixed) != disk:
            raise StickError(f"{device} is not what it was when you were asked", hint="look again, and start over")
        _clear_tail(fd, disk, image)
        _write(image, disk, progress)
        run(["blockdev", "--flushbufs", disk.path])
        compare(image, Path(disk.path), progress)
    progress.note(f"{summary(disk)} holds {iso.name}, sha256 {image.sha256}; it can be taken out")


def ask_on_terminal(question: str) -> str:
    """For people. Raises StickError where nobody can answer."""
    if not sys.stdin.isatty():
        raise StickError("nobody is here to confirm it", hint="on a terminal you are asked; in a script say --yes")
    try:
        return input(question)
    except EOFError:
        return ""


def _have_typed(disk: BlockDevice, ask: Ask) -> None:
    name = Path(disk.path).name
    if ask(f"Type the device's name, {name}, to overwrite it: ").strip() not in (name, disk.path):
        raise StickError(f"not confirmed: {disk.path} is as it was", hint=f"the answer is {name}")


def _chosen(device: Path, image: Iso, *, force_fixed: bool) -> BlockDevice:
    try:
        status = device.stat()
    except OSError as e:
        raise StickError(f"{device}: {e.strerror}", hint="`lsblk` shows what is plugged in") from e
    if not stat.S_ISBLK(status.st_mode):
        raise StickError(f"{device} is no block device", hint="`lsblk` shows which there are: --device /dev/sdX")
    numbers = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    disk = choose(block_devices(), numbers, str(device), iso_size=image.size, force_fixed=force_fixed)
    if not os.access(disk.path, os.R_OK | os.W_OK):
        raise StickError(f"no permission to write to {disk.path}", hint="run it as root")
    return disk


@contextlib.contextmanager
def _held(device: Path) -> Iterator[int]:
    """The device, open for writing. Nobody else has it, and none of it is mounted by udev's rules before this ends.

    O_EXCL fails where the kernel has given the disk or a part of it to something, be it a file system that lsblk does
    not know of (open(2)); it is let go of at once, for bmaptool wants the same. The lock is the one that udev honours
    (systemd, "Locking Block Device Access").
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
        fd = os.open(device, os.O_RDWR)
    except OSError as e:
        busy = e.errno == errno.EBUSY
        raise StickError(
            f"{device}: {'something holds it' if busy else e.strerror}",
            hint="a file system, an array or another program uses it: `lsblk`, `fuser -v`" if busy else "",
        ) from e
    try:
        _lock(fd, device)
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, device: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if time.monotonic() > deadline:
                hint = "wait for its end; `lslocks` names it"
                raise StickError(f"another program has locked {device}", hint=hint) from e
            time.sleep(_POLL)


def _clear_tail(fd: int, disk: BlockDevice, image: Iso) -> None:
    start = max(image.size, disk.size - _TAIL)
    try:
        os.pwrite(fd, bytes(disk.size - start), start)
        os.fsync(fd)
    except OSError as e:
        raise StickError(
            f"{disk.path} takes no bytes near its end: {e.strerror}",
            hint="the stick is worn out, or smaller than it says",
        ) from e


def _write(image: Iso, disk: BlockDevice, progress: Progress) -> None:
    # With a block map, bmaptool would pass over the holes of a sparse ISO, and what the stick held there would stay.
    argv = ["bmaptool", "--quiet", "copy", "--nobmap", str(image.path.absolute()), disk.path]
    before = _written(disk)
    title = f"writing {image.path.name} to {disk.path}"
    with tempfile.TemporaryFile() as errors, progress.measured(title, image.size) as tell:
        process = stream(argv, errors=errors)
        try:
            while _runs(process):
                tell(_written(disk) - before)
        except BaseException:
            kill_group(process)
            raise
        errors.seek(0)
        _check_end(process, errors.read().decode(errors="replace"), disk)


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """After at most one poll's time."""
    try:
        process.wait(_POLL)
    except subprocess.TimeoutExpired:
        return True
    return False


def _check_end(process: subprocess.Popen[bytes], stderr: str, disk: BlockDevice) -> None:
    if process.returncode != 0:
        raise StickError(
            f"{disk.path} could not be written: {' '.join(stderr.split()) or f'exit code {process.returncode}'}",
            hint="it does not hold a usable medium now; `dmesg` tells what the kernel thinks of the stick",
        )


def _written(disk: BlockDevice) -> int:
    """Bytes that the device has been sent so far: the seventh field counts sectors (Linux, block/stat.rst)."""
    return int(Path(f"/sys/dev/block/{disk.numbers}/stat").read_text().split()[6]) * _SECTOR


def compare(image: Iso, device: Path, progress: Progress) -> None:
    """Read the ISO's bytes back from the device. Raises StickError, which names the first wrong one."""
    digest = hashlib.sha256()
    with image.path.open("rb") as expected, device.open("rb", buffering=0) as found:
        os.posix_fadvise(found.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with progress.measured(f"reading {device} back", image.size) as tell:
            for at in range(0, image.size, PIECE):
                length = min(PIECE, image.size - at)
                piece, wanted = _read(found.fileno(), length, at), expected.read(length)
                if piece != wanted:
                    raise _difference(image, device, at, wanted, piece)
                digest.update(piece)
                tell(at + length)
    if digest.hexdigest() != image.sha256:
        raise StickError(f"{image.path} has changed while it was written", hint="write it again")


def _read(fd: int, length: int, at: int) -> bytes:
    """All of the bytes, up to where the device ends or cannot be read."""
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < length and (more := os.pread(fd, length - len(data), at + len(data))):
            data += more
    return data


def _difference(image: Iso, device: Path, at: int, wanted: bytes, found: bytes) -> StickError:
    first = next(
        (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found))
    )
    says = f"is 0x{found[first]:02x}" if first < len(found) else "cannot be read"
    should = (
        f"should be 0x{wanted[first]:02x}" if first < len(wanted) else f"is beyond the end that {image.path} has now"
    )
    return StickError(
        f"{device} does not hold what was written: byte {at + first} {says} and {should}",
        hint="the stick is worn out, or smaller than it says; take another one",
    )
