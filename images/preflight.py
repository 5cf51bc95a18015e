"""What the build host must have, checked before any work: each complaint names what to install or to change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from config.door import SYSTEM_PATH
from config.sizes import format_size
from images import namespace
from images.errors import PreflightError, SpaceError
from images.sources import KEYRING

TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "dpkg-scanpackages": "dpkg-dev",
    "gpg": "gpg",
    "gpg-agent": "gpg-agent",
    "gpgv": "gpgv",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "ssh-keygen": "openssh-client",
    "tar": "tar",
    "unshare": "util-linux",
}
"""Program -> the Debian package that has it. What every build takes; below, what only some commands do."""
IPXE = (Path("/usr/lib/ipxe/undionly.kpxe"), Path("/usr/lib/ipxe/snponly.efi"))
"""iPXE for BIOS and for UEFI, on top of the firmware's own driver for the card that it booted from."""

FORMATS: Mapping[str, Mapping[str, str]] = {
    "iso": {"xorriso": "xorriso"},
    "netboot": {str(path): "ipxe" for path in IPXE},
}
SERVE = {"dnsmasq": "dnsmasq-base", "ip": "iproute2", "openssl": "openssl"}
WRITE_USB = {"bmaptool": "bmap-tools", "lsblk": "util-linux"}

GIB = 1 << 30
ROOTFS_SPACE = 4 * GIB
"""Bytes for the tree while it is made, the packages that it is made of, its tar, and the disk filled with it."""
TREE_SPACE = 1 * GIB
"""Bytes for the tree that our package is installed upon."""
OUT_SPACE = 2 * GIB
"""Bytes that raw (sparse) and qcow2 really take."""
PAYLOAD_SPACE = 1 * GIB
"""Bytes for the payload of an installation, without the seed medium."""


def build_needs(formats: Iterable[str], *, root: bool | None = None) -> dict[str, str]:
    """What a build of these formats takes, by root or by another user; by the one who asks, if that is not said."""
    root = os.geteuid() == 0 if root is None else root
    needs = TOOLS | {KEYRING: "debian-archive-keyring"} | ({} if root else {"newuidmap": "uidmap"})
    return needs | {what: package for name in formats for what, package in FORMATS.get(name, {}).items()}


def missing(needs: Mapping[str, str]) -> dict[str, str]:
    """What of this is not on this host: programs, and files by their absolute paths, each with its package."""
    return {what: package for what, package in needs.items() if not _is_there(what)}


def install_command(packages: Iterable[str]) -> str:
    """The command that installs these packages."""
    return f"apt-get install {' '.join(sorted(set(packages)))}"


def packages() -> tuple[str, ...]:
    """All Debian packages that any build may need."""
    return tuple(sorted({*build_needs(tuple(FORMATS), root=False).values()}))


def check_tools(formats: Sequence[str] = ()) -> None:
    """Raise PreflightError with everything that these formats lack, and the command that installs it."""
    if lacking := missing(build_needs(formats)):
        what = ", ".join(lacking)
        raise PreflightError(f"this host lacks what the build needs: {what}", hint=install_command(lacking.values()))


def _is_there(what: str) -> bool:
    return Path(what).is_file() if what.startswith("/") else shutil.which(what, path=SYSTEM_PATH) is not None


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
