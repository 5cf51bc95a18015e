"""A finished image, opened for reading: its partition table, what lies on each partition, and its file systems."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from config.door import PIECE, run, sha256_of
from config.errors import CommandError
from images import imagefile
from images.cache import Cache
from images.errors import InspectError
from images.ext4 import FileSystem
from images.grub import BOOT_CODE_SIZE
from images.inspection.medium import Medium, unpack

_RELEASE = "/usr/lib/os-release"


class Partition(BaseModel):
    """One partition. start and size in bytes; type and uuid as the table has them; what is not known is empty."""

    model_config = ConfigDict(frozen=True)

    type: str = ""
    uuid: str = ""
    name: str = ""
    start: int
    size: int
    filesystem: str = ""
    filesystem_uuid: str = ""
    label: str = ""


@dataclass(frozen=True)
class Disk:
    """The disk that an image is, or installs. table: gpt, dos, or empty where one file system is all of it."""

    format: str
    size: int
    table: str
    partitions: tuple[Partition, ...]
    medium: Medium | None
    raw: Path
    scratch: Path

    @functools.cached_property
    def ext4(self) -> dict[int, FileSystem]:
        """Its file systems of that kind, by their first byte (debugfs reads ext2 and ext3 as well)."""
        starts = (p.start for p in self.partitions if p.filesystem in ("ext2", "ext3", "ext4"))
        return {start: FileSystem(self.raw, start) for start in starts}

    @functools.cached_property
    def root(self) -> FileSystem | None:
        """The one that holds an operating system."""
        return next((system for system in self.ext4.values() if system.text(_RELEASE) is not None), None)

    @property
    def release(self) -> str:
        """What the operating system calls itself (os-release(5), PRETTY_NAME); empty where there is none."""
        match = re.search(r'^PRETTY_NAME="?(.*?)"?$', (self.root and self.root.text(_RELEASE)) or "", re.MULTILINE)
        return match[1] if match else ""

    @functools.cached_property
    def esp(self) -> dict[str, tuple[int, str]]:
        """Path -> size in bytes and sha256 (hex) of the files on its FAT partitions, of which one is the ESP."""
        found: dict[str, tuple[int, str]] = {}
        for partition in (p for p in self.partitions if p.filesystem == "vfat"):
            target = self.scratch / f"fat-{partition.start}"
            target.mkdir(exist_ok=True)
            run(["mcopy", "-s", "-n", "-Q", "-i", f"{self.raw}@@{partition.start}", "::*", target], check=False)
            paths = sorted(path for path in target.rglob("*") if path.is_file())
            found |= {f"/{path.relative_to(target)}": (path.stat().st_size, sha256_of(path)) for path in paths}
        return found

    @property
    def boot_code(self) -> bytes:
        """What a BIOS starts, without the table behind it; empty where there is none."""
        with self.raw.open("rb") as f:
            return f.read(BOOT_CODE_SIZE).rstrip(b"\0")

    def sha256_of(self, partition: Partition) -> str:
        """Of what is on a partition, hex."""
        digest, end = hashlib.sha256(), partition.start + partition.size
        with self.raw.open("rb") as f:
            for at in range(partition.start, end, PIECE):
                digest.update(os.pread(f.fileno(), min(PIECE, end - at), at))
        return digest.hexdigest()


@contextmanager
def opened(image: Path, cache: Cache) -> Iterator[Disk]:
    """The disk in an image file: raw, qcow2 or another format of qemu-img's, or an install medium.

    What has to be unpacked for it lies in the cache's scratch space meanwhile. Raises InspectError.
    """
    if not image.is_file():
        raise InspectError(f"there is no image {image}", hint="`invoke build-image` makes out/xenpair.qcow2")
    with cache.scratch() as scratch:
        try:
            yield _opened(image, scratch)
        except CommandError as e:
            raise InspectError(f"{image} cannot be read: {e}") from e


def _opened(image: Path, scratch: Path) -> Disk:
    found = imagefile.info(image)
    raw, format_, medium = scratch / "disk.raw", found.format, None
    if format_ == "raw":
        # Under a name without what debugfs and mtools take for an offset.
        raw.symlink_to(image.resolve())
    else:
        imagefile.convert_to_raw(image, format_, raw)
    if _probe(raw).get("TYPE") == "iso9660":
        format_, medium = "iso", Medium.read(raw, scratch)
        if medium.key:
            raw = unpack(raw, scratch)
    table, partitions = _partitions(raw)
    if not table and not partitions:
        raise InspectError(
            f"{image} is no disk image: there is neither a partition table nor a file system in it",
            hint="give it a file that `invoke build-image` has made: qcow2, raw or iso",
        )
    return Disk(format_, raw.stat().st_size, table, partitions, medium, raw, scratch)


def _partitions(raw: Path) -> tuple[str, tuple[Partition, ...]]:
    size, whole = raw.stat().st_size, _probe(raw)
    shown = run(["sfdisk", "--json", raw], check=False)
    if shown.returncode != 0:
        return "", (_on_it(Partition(start=0, size=size), whole),) if "TYPE" in whole else ()
    table, bare = parse_table(shown.stdout)
    return table, tuple(_on_it(partition, _probe(raw, partition)) for partition in bare)


def parse_table(text: str) -> tuple[str, tuple[Partition, ...]]:
    """The kind of table and its partitions, from what `sfdisk --json` printed."""
    table: dict[str, Any] = json.loads(text)["partitiontable"]
    sector = table.get("sectorsize", 512)
    return table["label"], tuple(
        Partition(
            type=row["type"],
            uuid=row.get("uuid", ""),
            name=row.get("name", ""),
            start=row["start"] * sector,
            size=row["size"] * sector,
        )
        for row in table.get("partitions", [])
    )


def _on_it(partition: Partition, probed: dict[str, str]) -> Partition:
    update = {
        "filesystem": probed.get("TYPE", ""),
        "filesystem_uuid": probed.get("UUID", ""),
        "label": probed.get("LABEL", ""),
    }
    return partition.model_copy(update=update)


def _probe(raw: Path, partition: Partition | None = None) -> dict[str, str]:
    """What blkid(8) finds there: TYPE, UUID, LABEL. Empty where it knows nothing."""
    place = [f"--offset={partition.start}", f"--size={partition.size}"] if partition else []
    shown = run(["blkid", "--probe", "--output=export", *place, raw], check=False).stdout
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", shown.replace("\\", ""), flags=re.MULTILINE))
