"""GRUB without grub-install: its options, its boot code for BIOS and UEFI, and the proof that Xen comes first.

grub-install wants a block device and grub-mkconfig writes whatever device it finds below the build host's root; both
are wrong in a tree that is only going to be a disk. What grub-install does to the boot code is a few bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.sizes import format_size
from images.errors import BuildError

SECTOR = 512
BOOT_CODE_SIZE = 440
"""Bytes of boot code before the disk signature and the (protective) partition table."""

BIOS_MODULES = ("biosdisk", "part_gpt", "ext2", "gzio", "search_fs_uuid")
EFI_MODULES = ("part_gpt", "fat", "ext2", "gzio", "search", "search_fs_uuid", "normal", "configfile", "echo", "test")
"""Built in. gzio, because Xen is packed with gzip and no grub.cfg of update-grub's asks for it before loading Xen."""

DOM0_OPTIONS = "console=hvc0 systemd.ssh_auto=no"
"""Xen's console; and no SSH socket by AF_VSOCK, which systemd would try to set up at every reload."""
LINUX_OPTIONS = "console=tty0 console=ttyS0,115200"

# Offsets of boot.img and of the block list that ends the first sector of core.img, which loads the rest of it:
# GRUB_BOOT_MACHINE_KERNEL_SECTOR, GRUB_BOOT_MACHINE_DRIVE_CHECK and struct grub_pc_bios_boot_blocklist in GRUB's
# include/grub/offsets.h and include/grub/i386/pc/boot.h.
_KERNEL_SECTOR = 0x5C
_DRIVE_CHECK = 0x66
_BLOCK_LIST = SECTOR - 12
_CORE_SEGMENT = 0x820


def xen_options(dom0_memory: int) -> str:
    """Xen's command line; dom0_memory in bytes. ucode=scan takes the microcode out of dom0's initramfs."""
    memory = format_size(dom0_memory)
    return f"dom0_mem={memory},max:{memory} com1=115200,8n1 console=com1,vga ucode=scan"


def early_config(root_uuid: str) -> str:
    """What core.img does first: find the root file system by its UUID, wherever the disk hangs."""
    return f"search.fs_uuid {root_uuid} root\nset prefix=($root)/boot/grub\n"


def efi_config(root_uuid: str) -> str:
    """EFI/debian/grub.cfg on the ESP, as Debian's grub-install writes it."""
    return early_config(root_uuid) + "configfile $prefix/grub.cfg\n"


def bios_argv(mkimage: Sequence[str], parts: Path, early: Path, core: Path) -> list[str]:
    """grub-mkimage of core.img, which does first what the file early says; parts: GRUB's own, for BIOS."""
    words = ["-O", "i386-pc", "-p", "/boot/grub", "-c", str(early), "-o", str(core), *BIOS_MODULES]
    return [*mkimage, "-d", str(parts), *words]


def efi_argv(mkimage: Sequence[str], parts: Path, loader: Path) -> list[str]:
    """grub-mkimage of the loader for UEFI; parts: GRUB's own, for UEFI."""
    return [*mkimage, "-d", str(parts), "-O", "x86_64-efi", "-p", "/EFI/debian", "-o", str(loader), *EFI_MODULES]


def boot_sector(boot_img: bytes, core_lba: int) -> bytes:
    """boot.img made to load the first sector of core.img from core_lba (sectors of 512 bytes)."""
    if len(boot_img) != SECTOR or boot_img[-2:] != b"\x55\xaa":
        raise BuildError(f"GRUB's boot.img should be one boot sector; found {len(boot_img)} bytes")
    code = bytearray(boot_img)
    code[_KERNEL_SECTOR : _KERNEL_SECTOR + 8] = struct.pack("<Q", core_lba)
    # Trust the BIOS about the drive that it booted from; the jump is for floppies.
    code[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"
    return bytes(code[:BOOT_CODE_SIZE])


def core_image(core: bytes, core_lba: int, room: int) -> bytes:
    """core.img made to load the rest of itself from the sectors after core_lba; room in bytes, for the whole of it."""
    if len(core) > room:
        raise BuildError(f"GRUB's core.img has {len(core)} bytes, and the BIOS boot partition room for {room}")
    sectors_after_first = (len(core) + SECTOR - 1) // SECTOR - 1
    image = bytearray(core)
    image[_BLOCK_LIST:SECTOR] = struct.pack("<QHH", core_lba + 1, sectors_after_first, _CORE_SEGMENT)
    return bytes(image)


@dataclass(frozen=True)
class Entry:
    """One menu entry: title, id ("" without one) and the lines between its braces."""

    title: str
    id: str
    lines: tuple[str, ...]

    def argument(self, command: str) -> str | None:
        """First argument that is no option, of the first such command."""
        for line in self.lines:
            words = line.split()
            if words[:1] == [command]:
                return next((word for word in words[1:] if not word.startswith("--")), None)
        return None

    def arguments(self, command: str) -> list[str]:
        """The same for each such command."""
        found = [Entry(self.title, self.id, (line,)).argument(command) for line in self.lines]
        return [argument for argument in found if argument is not None]


def top_level_entries(config: str) -> list[Entry | None]:
    """The menu from the top, as `default` counts it; a submenu counts as one, and is None."""
    entries: list[Entry | None] = []
    lines = iter(config.splitlines())
    for line in lines:
        match = re.match(r"\s*(menuentry|submenu)\s+('[^']*'|\"[^\"]*\")(.*)\{\s*$", line)
        if match is None:
            continue
        body: list[str] = []
        depth = 1
        while depth and (inner := next(lines, None)) is not None:
            depth += inner.rstrip().endswith("{") - (inner.strip() == "}")
            body.append(inner.strip())
        identity = re.search(r"(?:--id|\$menuentry_id_option)\s+['\"]?([^\s'\"]+)", match[3])
        entry = Entry(match[2][1:-1], identity[1] if identity else "", tuple(body[:-1]))
        entries.append(entry if match[1] == "menuentry" else None)
    return entries


def default_entry(config: str) -> Entry:
    """The entry that boots when nobody touches a key. Raises BuildError where grub.cfg names none that exists.

    update-grub writes `set default="${next_entry}"` for one-time boots first; the plain value after it counts.
    """
    found: list[str] = re.findall(r"^\s*set default=[\"']?([^\"'\n]*?)[\"']?\s*$", config, flags=re.MULTILINE)
    values = [value for value in found if "$" not in value]
    wanted = values[-1] if values else "0"
    entries = top_level_entries(config)
    for index, entry in enumerate(entries):
        if entry is not None and wanted in (str(index), entry.title, entry.id):
            return entry
    titles = ", ".join(repr(entry.title) for entry in entries if entry is not None)
    raise BuildError(f"grub.cfg's default is {wanted!r}, which is no entry of its menu: {titles or 'it is empty'}")


def check_default_is_xen(config: str, root_uuid: str, exists: Callable[[str], bool]) -> Entry:
    """Raise BuildError unless the default entry boots Xen by multiboot2 with a dom0 kernel on the root file system.

    exists() tells whether an absolute path is a file of the tree.
    """
    entry = default_entry(config)
    xen, modules = entry.argument("multiboot2"), entry.arguments("module2")
    if xen is None or len(modules) < 2:
        raise BuildError(f"grub.cfg's default entry {entry.title!r} does not boot Xen with a kernel and an initramfs")
    for path in (xen, *modules):
        if not exists(path):
            raise BuildError(f"grub.cfg's default entry {entry.title!r} loads {path}, which is not in the image")
    if not any(f"root=UUID={root_uuid}" in line.split() for line in entry.lines if line.startswith("module2")):
        raise BuildError(f"grub.cfg's default entry {entry.title!r} does not name the root file system {root_uuid}")
    return entry
