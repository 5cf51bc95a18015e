"""What the build host must have, checked before any work: each complaint names what to install or to change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from config.door import SYSTEM_PATH
from config.model import format_size
from images import namespace
from images.errors import PreflightError, SpaceError
from images.sources import KEYRING

TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mcopy": "mtools",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "ssh-keygen": "openssh-client",
    "tar": "tar",
    "unshare": "util-linux",
}
"""Program -> the Debian package that has it."""
IPXE = (Path("/usr/lib/ipxe/undionly.kpxe"), Path("/usr/lib/ipxe/snponly.efi"))
"""iPXE for BIOS and for UEFI, on top of the firmware's own driver for the card that it booted from."""

GIB = 1 << 30
ROOTFS_SPACE = 3 * GIB
"""Bytes for the tree while it is made, the packages that it is made of, and its tar."""
TREE_SPACE = 1 * GIB
"""Bytes for the tree that the disk is filled from."""
OUT_SPACE = 2 * GIB
"""Bytes that raw (sparse) and qcow2 really take."""


PAYLOAD_SPACE = 1 * GIB
"""Bytes for the payload of an installation, without the seed medium."""


def check_tools(formats: Sequence[str] = ()) -> None:
    """Raise PreflightError with everything that these formats lack, and the command that installs it."""
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool, path=SYSTEM_PATH) is None}
    if os.geteuid() != 0 and shutil.which("newuidmap", path=SYSTEM_PATH) is None:
        missing.add("uidmap")
    if "iso" in formats and shutil.which("xorriso", path=SYSTEM_PATH) is None:
        missing.add("xorriso")
    if "netboot" in formats and not all(path.is_file() for path in IPXE):
        missing.add("ipxe")
    if not Path(KEYRING).is_file():
        missing.add("debian-archive-keyring")
    if missing:
        packages = " ".join(sorted(missing))
        raise PreflightError(f"this host lacks what the build needs: {packages}", hint=f"apt-get install {packages}")


def check_namespaces() -> None:
    """Raise PreflightError where the build may not make its namespaces."""
    namespace.check()


def check_space(needs: Sequence[tuple[Path, int]]) -> None:
    """Raise SpaceError unless each directory's file system has room; needs: (directory, bytes), added per device."""
    wanted: dict[int, int] = {}
    for directory, size in needs:
        directory.mkdir(parents=True, exist_ok=True)
        device = directory.stat().st_dev
        wanted[device] = wanted.get(device, 0) + size
        free = shutil.disk_usage(directory).free
        if free < wanted[device]:
            raise SpaceError(
                f"the build needs {format_size(wanted[device])} of free space at {directory}, "
                f"and {free / GIB:.1f}G are free",
                hint="make room there, or choose another directory",
            )
