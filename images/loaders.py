"""The boot loaders of the install medium, made by the image's own GRUB: for BIOS from CD and stick, and for UEFI."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from config.door import run
from images.tree import Tree

ELTORITO = "eltorito.img"
"""GRUB as a BIOS loads it from a CD (El Torito, no emulation), with all that it needs."""
HYBRID = "boot_hybrid.img"
"""Boot sector that loads the same from a stick."""
EFI = "efi.img"
"""FAT image with GRUB for UEFI at the removable path (UEFI specification, 3.5.1.1)."""

ALL = (ELTORITO, HYBRID, EFI)

_ANY = ("part_gpt", "part_msdos", "iso9660", "ext2", "mdraid1x", "gzio", "search", "search_fs_uuid", "search_label")
"""gzio and what finds the root are for the installed system's menu, which counts on them: see images/grub.py."""
_MENU = ("normal", "configfile", "linux", "echo", "test", "serial", "terminal")
BIOS_MODULES = ("biosdisk", *_ANY, *_MENU)
EFI_MODULES = ("fat", "efi_gop", "efi_uga", *_ANY, *_MENU)

_EFI_SIZE = 4096
"""KiB."""


def volume_uuid(date: int) -> str:
    """What GRUB and blkid take for the UUID of an ISO 9660 file system of that date, in seconds since the epoch."""
    return datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%d-%H-%M-%S-00")


def early_config(date: int) -> str:
    """What GRUB does first: find the medium that it belongs to, whichever drive the firmware calls it."""
    return f"search.fs_uuid {volume_uuid(date)} root\nset prefix=($root)/boot/grub\n"


def make(tree: Tree, directory: Path, date: int) -> None:
    """Make all three in directory. The tree has to be mounted; date tells the medium apart from other ones."""
    (tree.path / "mnt/early.cfg").write_text(early_config(date))
    for target, name, modules in (
        ("i386-pc-eltorito", ELTORITO, BIOS_MODULES),
        ("x86_64-efi", "BOOTX64.EFI", EFI_MODULES),
    ):
        options = ["-O", target, "-p", "/boot/grub", "-c", "/mnt/early.cfg", "-o", f"/mnt/{name}"]
        tree.run("grub-mkimage", *options, *modules)
    shutil.copyfile(tree.path / "mnt" / ELTORITO, directory / ELTORITO)
    shutil.copyfile(tree.path / "usr/lib/grub/i386-pc" / HYBRID, directory / HYBRID)
    _make_efi(tree.path / "mnt/BOOTX64.EFI", directory / EFI, date)


def _make_efi(loader: Path, image: Path, date: int) -> None:
    env = {"SOURCE_DATE_EPOCH": str(date), "TZ": "UTC"}
    identifier = ["-n", "XENPAIR_EFI", "-i", f"{date & 0xFFFFFFFF:08x}"]
    run(["mkfs.vfat", "--invariant", "-C", *identifier, image, str(_EFI_SIZE)])
    run(["mmd", "-i", image, "::EFI", "::EFI/BOOT"], env=env)
    run(["mcopy", "-i", image, loader, "::EFI/BOOT/BOOTX64.EFI"], env=env)
