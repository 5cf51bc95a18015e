"""From the disk that a root file system fills to an image: with our package, our files, and what boots it.

Nothing is mounted, and no root is needed: all that is done to the disk is done inside of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.door import run
from images import delta, disk, grub
from images.files import File, write_tree
from images.installed import Installed
from images.rootfs import Rootfs
from images.tools import BIOS, UEFI, Tools

_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Parts:
    """What an image is put together of; files: the last ones, by their path in it."""

    base: Rootfs
    installed: Installed
    files: Mapping[str, File]
    identity: disk.Identity


def make_disk(parts: Parts, raw: Path, scratch: Path) -> None:
    """Write the raw image, with the help of a directory. Raises BuildError, CommandError or OSError."""
    base, installed, files, identity = parts.base, parts.installed, parts.files, parts.identity
    grub.check_default_is_xen(files["boot/grub/grub.cfg"].data.decode(), identity.root, base.boot.__contains__)
    environment = {"SOURCE_DATE_EPOCH": str(base.date)}
    run(["cp", "--sparse=auto", "--reflink=auto", base.raw, raw], timeout=_TIMEOUT)
    _partition(raw, identity, scratch)
    write_tree(files, scratch / "files")
    requests = [*installed.requests(), *_replacements(files, scratch / "files", base.date)]
    script = scratch / "requests"
    script.write_text("".join(f"{request}\n" for request in requests))
    delta.apply(disk.change_argv(base.tools.argv("debugfs"), raw, script), installed.path, environment)
    run(disk.uuid_argv(base.tools.argv("tune2fs"), raw, identity), env=environment)
    _write_esp(raw, base.tools, identity, scratch, environment)
    _write_boot_sectors(raw, base.tools, identity, scratch)


def _replacements(files: Mapping[str, File], directory: Path, date: int) -> list[str]:
    return [
        request
        for name, file in files.items()
        for request in delta.replacement(name, directory / name, 0o755 if file.executable else 0o644, date)
    ]


def _partition(raw: Path, identity: disk.Identity, scratch: Path) -> None:
    """With tables made in an empty file: sfdisk waits until all of what it has opened is on the disk."""
    empty = scratch / "tables"
    with empty.open("xb") as f:
        f.truncate(disk.DISK_SIZE)
    run(disk.partition_argv(empty), stdin=disk.partition_script(identity))
    with empty.open("rb") as tables, raw.open("r+b") as f:
        for start in (0, disk.DISK_SIZE - disk.MIB):
            tables.seek(start)
            f.seek(start)
            f.write(tables.read(disk.MIB))


def _write_esp(raw: Path, tools: Tools, identity: disk.Identity, scratch: Path, environment: Mapping[str, str]) -> None:
    loader = scratch / "grub.efi"
    run(grub.efi_argv(tools.argv("grub-mkimage"), tools.grub(UEFI), loader))
    config = scratch / "grub.cfg"
    config.write_text(grub.efi_config(identity.root))
    files = {"EFI/BOOT/BOOTX64.EFI": loader, "EFI/debian/grubx64.efi": loader, "EFI/debian/grub.cfg": config}
    # FAT has local times.
    env = {**environment, "TZ": "UTC"}
    run(disk.esp_argv(raw, identity), env=env)
    run(disk.esp_directories_argv(raw, ("EFI", "EFI/BOOT", "EFI/debian")), env=env)
    for name, source in files.items():
        run(disk.esp_copy_argv(raw, source, name), env=env)


def _write_boot_sectors(raw: Path, tools: Tools, identity: disk.Identity, scratch: Path) -> None:
    early, core = scratch / "early.cfg", scratch / "core.img"
    early.write_text(grub.early_config(identity.root))
    run(grub.bios_argv(tools.argv("grub-mkimage"), tools.grub(BIOS), early, core))
    lba = disk.BIOS_BOOT.lba
    with raw.open("r+b") as f:
        f.write(grub.boot_sector((tools.grub(BIOS) / "boot.img").read_bytes(), lba))
        f.seek(disk.BIOS_BOOT.start)
        f.write(grub.core_image(core.read_bytes(), lba, disk.BIOS_BOOT.size))
