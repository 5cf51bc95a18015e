"""What `invoke inspect` tells of an image."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from images import deb, dpkg
from images.dpkg import Package
from images.ext4 import FileSystem
from images.files import read_tree
from images.inspection.boot import BootEntry, boot_entries
from images.inspection.disk import Disk, Partition
from images.inspection.medium import Medium
from images.rootfs import TEMPLATES

IMPORTANT = (
    deb.NAME,
    "xen-hypervisor-[0-9]*",
    "xen-utils-[0-9]*",
    "linux-image-[0-9]*",
    "drbd-utils",
    "lvm2",
    "heartbeat",
    "pacemaker",
    "corosync",
    "grub2-common",
    "systemd",
)
"""Patterns of the packages that are told by name."""
_MENUS = ("/boot/grub/grub.cfg", "/grub/grub.cfg")
_UNITS = "/etc/systemd/system"
_UEFI_DEFAULT = "/EFI/BOOT/BOOTX64.EFI"
"""What a UEFI boots of a disk that it has no entry for (UEFI specification, 3.5.1.1)."""


class Baked(BaseModel):
    """What xenpair has put into an image: its package with that one's files, settings of its own, systemd's units."""

    model_config = ConfigDict(frozen=True)

    version: str
    files: tuple[str, ...]
    settings: tuple[str, ...]
    enabled: tuple[str, ...]
    masked: tuple[str, ...]


class Inspection(BaseModel):
    """All that could be told. size: bytes of the disk; unknown: what could not be told, and why."""

    model_config = ConfigDict(frozen=True)

    image: str
    format: str
    size: int
    table: str
    partitions: tuple[Partition, ...]
    medium: Medium | None
    firmware: tuple[str, ...]
    entries: tuple[BootEntry, ...]
    release: str
    packages: tuple[Package, ...]
    xenpair: Baked | None
    unknown: tuple[str, ...]

    @property
    def important(self) -> tuple[Package, ...]:
        """The packages that are told by name, in the order of IMPORTANT."""
        return tuple(p for pattern in IMPORTANT for p in self.packages if fnmatch(p.name, pattern))


def inspect(image: Path, disk: Disk) -> Inspection:
    """Look at an opened image. Raises InspectError, CommandError."""
    packages = dpkg.installed((disk.root and disk.root.text(dpkg.STATUS)) or "")
    entries = _entries(disk)
    unknown = []
    if disk.root is None:
        unknown.append("the system: no ext4 partition holds one, and no other file system is read")
    elif not packages:
        unknown.append("the packages: the system has no dpkg database")
    if not entries:
        unknown.append("the boot entries: there is no grub.cfg on an ext4 partition")
    own = next((package for package in packages if package.name == deb.NAME), None)
    return Inspection(
        image=str(image),
        format=disk.format,
        size=disk.size,
        table=disk.table,
        partitions=disk.partitions,
        medium=disk.medium,
        firmware=firmware(disk.boot_code, disk.esp),
        entries=entries,
        release=disk.release,
        packages=packages,
        xenpair=_baked(disk.root, own) if disk.root and own else None,
        unknown=tuple(unknown),
    )


def firmware(boot_code: bytes, esp: dict[str, tuple[int, str]]) -> tuple[str, ...]:
    """Which kinds of firmware find something to start."""
    uefi = any(path.upper() == _UEFI_DEFAULT for path in esp)
    return (*(["BIOS"] if boot_code else []), *(["UEFI"] if uefi else []))


def _entries(disk: Disk) -> tuple[BootEntry, ...]:
    menus = (system.text(path) for system in disk.ext4.values() for path in _MENUS)
    return next((boot_entries(menu) for menu in menus if menu is not None), ())


def _baked(root: FileSystem, own: Package) -> Baked:
    listed = (root.text(f"/var/lib/dpkg/info/{own.name}.list") or "").splitlines()
    directories = {"/.", *(str(Path(path).parent) for path in listed)}
    names = [name.removesuffix(".j2") for name in read_tree(TEMPLATES / "image")]
    units = root.walk(_UNITS)
    targets = root.links(units)
    wanted = {Path(path).name for path in targets if Path(path).parent.suffix in (".wants", ".requires")}
    masked = {Path(path).name for path, target in targets.items() if target == "/dev/null"}
    return Baked(
        version=own.version,
        files=tuple(path for path in listed if path not in directories),
        settings=tuple(f"/{name}" for name in names if root.text(f"/{name}") is not None),
        enabled=tuple(sorted(wanted - masked)),
        masked=tuple(sorted(masked)),
    )
