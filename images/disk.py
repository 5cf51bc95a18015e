"""The disk: GPT with a BIOS boot partition, an ESP and the root file system, put together without mounting any of it.

Positions and sizes are bytes. Every tool writes straight into the sparse raw file, at its partition's offset.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SECTOR = 512

DISK_SIZE = 4096 * MIB
"""Small enough for any disk; the node grows the last partition, root, to what its disk has."""

_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_X86_64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


@dataclass(frozen=True)
class Partition:
    """One partition: type GUID (UAPI Discoverable Partitions Specification), name, start and size."""

    type: str
    name: str
    start: int
    size: int

    @property
    def lba(self) -> int:
        """Its first sector."""
        return self.start // SECTOR


BIOS_BOOT = Partition(_BIOS_BOOT, "bios-boot", 1 * MIB, 1 * MIB)
ESP = Partition(_ESP, "esp", 2 * MIB, 64 * MIB)
# The last MiB stays free for the backup GPT.
ROOT = Partition(_ROOT_X86_64, "root", 66 * MIB, DISK_SIZE - 67 * MIB)
PARTITIONS = (BIOS_BOOT, ESP, ROOT)


@dataclass(frozen=True)
class Identity:
    """The identifiers of one image: different images differ, the same image is always the same."""

    disk: str
    root: str
    hash_seed: str
    esp: str

    @classmethod
    def of(cls, key: str) -> Identity:
        """Derived from the image's content key; 32 hex digits, which is a UUID's worth."""
        base = uuid.UUID(key)
        disk, root, seed, esp = (uuid.uuid5(base, what) for what in ("disk", "root", "hash-seed", "esp"))
        return cls(str(disk), str(root), str(seed), esp.hex[:8])


def partition_script(identity: Identity) -> str:
    """Input for sfdisk(8)."""
    lines = ["label: gpt", f"label-id: {identity.disk}", "unit: sectors", f"first-lba: {MIB // SECTOR}"]
    base = uuid.UUID(identity.disk)
    for partition in PARTITIONS:
        lines.append(
            f"start={partition.lba}, size={partition.size // SECTOR}, type={partition.type}, "
            f'name="{partition.name}", uuid={uuid.uuid5(base, partition.name)}'
        )
    return "\n".join(lines) + "\n"


def partition_argv(image: Path) -> list[str]:
    """sfdisk, fed with partition_script()."""
    return ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(image)]


def root_argv(mkfs: Sequence[str], image: Path, tree: Path, identity: Identity) -> list[str]:
    """mkfs.ext4, which fills the file system from a directory (-d). Its inode tables are zeroed by the node.

    mkfs: how to run it. From 1.47.1 on it takes SOURCE_DATE_EPOCH for now, and no file of the image is newer.
    """
    extended = f"offset={ROOT.start},hash_seed={identity.hash_seed},lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    size = f"{ROOT.size // 1024}k"
    return [*mkfs, "-q", "-F", "-U", identity.root, "-E", extended, "-d", str(tree), str(image), size]


def uuid_argv(tune2fs: Sequence[str], image: Path, identity: Identity) -> list[str]:
    """tune2fs, which gives the root file system the image's UUID; its checksums stay (metadata_csum_seed)."""
    return [*tune2fs, "-U", identity.root, root_at(image)]


def change_argv(debugfs: Sequence[str], image: Path, script: Path) -> list[str]:
    """debugfs, which does to the root file system what a script says."""
    return [*debugfs, "-w", "-f", str(script), root_at(image)]


def root_at(image: Path) -> str:
    """The root file system, as programs of e2fsprogs want it. The image's path may hold no question mark."""
    return f"{image.absolute()}?offset={ROOT.start}"


def esp_argv(image: Path, identity: Identity) -> list[str]:
    """mkfs.vfat at the ESP's place; FAT32, which every firmware must read (UEFI specification, 13.3).

    --invariant, since not every release of it takes SOURCE_DATE_EPOCH for now; the identifier after it stays.
    """
    place = ["-h", str(ESP.lba), "--offset", str(ESP.lba), str(image), str(ESP.size // 1024)]
    return ["mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-i", identity.esp, "-n", "ESP", *place]


def esp_directories_argv(image: Path, names: Sequence[str]) -> list[str]:
    """mmd of directories on the ESP, in this order."""
    return ["mmd", "-i", f"{image}@@{ESP.start}", *(f"::{name}" for name in names)]


def esp_copy_argv(image: Path, source: Path, name: str) -> list[str]:
    """mcopy of one file to its place on the ESP."""
    return ["mcopy", "-Q", "-i", f"{image}@@{ESP.start}", str(source), f"::{name}"]


def qcow2_argv(raw: Path, qcow2: Path, *, compress: bool) -> list[str]:
    """qemu-img; without out-of-order writes (-W), which place the clusters by chance."""
    packed = ["-c", "-o", "compression_type=zstd"] if compress else []
    return ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *packed, "-m", "8", str(raw), str(qcow2)]
