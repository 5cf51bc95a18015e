"""What a new guest's volume is filled with before its first start."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.door import run
from config.errors import CommandError
from firstboot.errors import GuestError
from firstboot.guests import rootfs, xen_tools
from firstboot.guests.definition import Definition

MIB = 1 << 20

MKFS_LIMIT = 600.0
"""Seconds; a discard of a large volume takes longest."""
COPY_LIMIT = 4 * 3600.0
"""Seconds to unpack a tarball, or to copy an image: 500 GiB at 35 MiB/s, to both nodes."""
UNMOUNT_LIMIT = 1800.0
"""Seconds; what was unpacked last is still on its way to the disks."""
UNMOUNT_TRIES = 5
PRIVATE = "xenpair-making-"
"""Begins the name of the directory in which a new volume is mounted while it is filled."""

LABEL_LIMIT = 16
"""Bytes of an ext4 label (mke2fs(8), -L)."""
LEFT_OUT = "^orphan_file,^metadata_csum_seed"
"""Features of ext4 that today's mke2fs sets, and that the fsck of a guest with Debian 11 or Ubuntu 22.04 refuses."""
MOUNT_OPTIONS = "nodev,nosuid,noexec,noinit_itable"
"""Nothing in it is used here, and the zeroing of its inode tables is left to the guest (ext4(5))."""

FORMATS = ("raw", "qcow2")
_NO_TARBALL = ("does not look like a tar archive", "Unexpected EOF", "Child returned status 1")
"""What GNU tar says of something else, or of one that was cut off; the last where what it unpacks with gave up."""


@dataclass(frozen=True)
class Tarball:
    """A root file system, packed by tar, and compressed in any way that tar knows."""

    path: Path


@dataclass(frozen=True)
class Image:
    """A disk image, raw or qcow2, which stands on its own."""

    path: Path


@dataclass(frozen=True)
class Suite:
    """A Debian suite that xen-tools installs from a mirror (a URL)."""

    name: str
    mirror: str


@dataclass(frozen=True)
class Empty:
    """Nothing."""


Source = Tarball | Image | Suite | Empty


def fill(definition: Definition, device: Path, source: Source, authorized_keys: str = "") -> None:
    """Fill a new volume, whose content is lost. authorized_keys: who may log in as root; not into an image's system.

    Raises GuestError where the source is none or does not fit, CommandError where a tool fails; the volume holds
    something half-made then.
    """
    match source:
        case Tarball(path):
            make_file_system(device, definition.name)
            with mounted(device) as root:
                unpack(path, root, size(device))
                with rootfs.Tree(root) as tree:
                    try:
                        rootfs.check(tree)
                        rootfs.furnish(tree, definition, authorized_keys)
                    except GuestError as e:
                        raise GuestError(f"{path}: {e.message}", hint=e.hint) from e
        case Suite(name, mirror):
            xen_tools.check()
            make_file_system(device, definition.name)
            with private() as scratch:
                xen_tools.install(definition, device, name, mirror, scratch)
            with mounted(device) as root, rootfs.Tree(root) as tree:
                rootfs.check(tree)
                xen_tools.prepare(tree)
                rootfs.furnish(tree, definition, authorized_keys)
        case Image(path):
            copy_image(path, device)
        case Empty():
            pass


def size(device: Path) -> int:
    """Bytes of a block device. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def make_file_system(device: Path, label: str) -> None:
    """An empty ext4. Without -F, so that a device which is mounted is refused. Raises CommandError."""
    short = label.encode()[:LABEL_LIMIT].decode(errors="ignore")
    run(["mkfs.ext4", "-q", "-L", short, "-O", LEFT_OUT, device], timeout=MKFS_LIMIT)


@contextlib.contextmanager
def mounted(device: Path) -> Iterator[Path]:
    """Its file system, at a place that only root can enter. Raises CommandError, also where it stays mounted."""
    # In a directory of its own, since the mode of a mounted one is the file system's, and anybody may enter that.
    with private() as directory:
        root = directory / "root"
        root.mkdir()
        run(["mount", "-t", "ext4", "-o", MOUNT_OPTIONS, device, root])
        try:
            yield root
        finally:
            _unmount(root)


@contextlib.contextmanager
def private() -> Iterator[Path]:
    """A directory that only root can enter, and that is gone afterwards, unless something is still mounted in it."""
    directory = Path(tempfile.mkdtemp(prefix=PRIVATE))
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            _clear(directory)


def _clear(directory: Path) -> None:
    """One level and no deeper: while something is mounted there, what is below is the guest's. Raises OSError."""
    for left in directory.iterdir():
        left.rmdir() if left.is_dir() else left.unlink()
    directory.rmdir()


def release(device: Path) -> bool:
    """Unmount what a maker that was killed has left mounted; whether there was anything. The caller holds its lock.

    Raises CommandError where something of the maker's is still at work in it.
    """
    told = run(["findmnt", "--noheadings", "--raw", "--output", "TARGET", "--source", device], check=False).stdout
    left = [Path(target) for target in told.splitlines() if Path(target).parent.name.startswith(PRIVATE)]
    for root in left:
        _unmount(root)
        _clear(root.parent)
    return bool(left)


def _unmount(root: Path) -> None:
    # Something that looks at every new file system may be in it for a moment. Never lazily: the guest would be started
    # on a file system that is still mounted here.
    for left in reversed(range(UNMOUNT_TRIES)):
        if run(["umount", "--recursive", root], check=left == 0, timeout=UNMOUNT_LIMIT).returncode == 0:
            return
        time.sleep(1)


def unpack(tarball: Path, root: Path, room: int) -> None:
    """Unpack it as it was packed: owners by number, all attributes. room: bytes of the volume, for the message."""
    options = ["--numeric-owner", "--same-owner", "--preserve-permissions", "--acls", "--xattrs", "--xattrs-include=*"]
    # tar finds out the compression, keeps no member outside of the directory, and takes no colon for a host's name.
    argv: list[str | Path] = ["tar", "--extract", "--force-local", *options, "--file", tarball, "--directory", root]
    try:
        run(argv, timeout=COPY_LIMIT)
    except CommandError as e:
        if e.returncode is None:
            raise
        raise tar_trouble(tarball, e.stderr, room) from e


def tar_trouble(tarball: Path, stderr: str, room: int) -> GuestError:
    """What went wrong, from what tar said."""
    if "No space left on device" in stderr:
        return GuestError(f"{tarball} does not fit into {room // MIB}M", hint="give the guest a larger disk")
    if any(words in stderr for words in _NO_TARBALL):
        return GuestError(
            f"{tarball} is no tarball, or not a whole one",
            hint=f"`tar --list --file {tarball}` on this node tells more",
        )
    lines = [line for line in stderr.strip().splitlines() if "Exiting with failure status" not in line]
    return GuestError(f"{tarball} could not be unpacked: {'; '.join(lines[-3:]) or 'tar does not say why'}")


def copy_image(image: Path, device: Path) -> None:
    """Copy it to the front of the device, and wait for the disks. Raises GuestError, CommandError."""
    file = image.absolute()
    try:
        told = run(["qemu-img", "info", "--output=json", file]).stdout
    except CommandError as e:
        if e.returncode is None:
            raise
        raise GuestError(f"{image} cannot be read as a disk image: {e.stderr.strip()}") from e
    kind, length = image_facts(image, told)
    if length > (room := size(device)):
        raise GuestError(
            f"the disk in {image} has {-(-length // MIB)}M, and the guest's has {room // MIB}M",
            hint=f"give the guest a disk of at least {-(-length // MIB)}M",
        )
    # -n: the device is there. -t none: past the page cache of a dom0 that has little memory.
    run(["qemu-img", "convert", "-n", "-f", kind, "-O", "raw", "-t", "none", file, device], timeout=COPY_LIMIT)
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def image_facts(image: Path, told: str) -> tuple[str, int]:
    """Format and size in bytes of the disk in it, from what `qemu-img info --output=json` printed.

    Raises GuestError for another format, and for an image that needs another file or a key: such a file could be any
    file of this node.
    """
    try:
        info = json.loads(told)
        kind, length = str(info["format"]), int(info["virtual-size"])
        special = info.get("format-specific", {}).get("data", {})
        needed = info.get("full-backing-filename") or info.get("backing-filename") or special.get("data-file")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise GuestError(f"qemu-img says of {image} what is not understood: {e}: {told[:200]!r}") from e
    convert = f"`qemu-img convert -O qcow2 {image.name} whole.qcow2` where it was made"
    if kind not in FORMATS:
        raise GuestError(f"{image} is a {kind} image, and only {' and '.join(FORMATS)} are taken", hint=convert)
    if needed:
        raise GuestError(f"{image} is not whole: it needs {needed}", hint=convert)
    if info.get("encrypted") or "encrypt" in special:
        raise GuestError(f"{image} is encrypted", hint=convert)
    if special.get("corrupt"):
        raise GuestError(f"{image} is marked as corrupt", hint=f"`qemu-img check {image}` tells more")
    return kind, length
