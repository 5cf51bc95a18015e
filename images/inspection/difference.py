"""What differs between two images: the disk, the packages, the files. Times do not count."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from images import dpkg
from images.errors import InspectError
from images.ext4 import Entry, FileSystem
from images.inspection.disk import Disk

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileState(_Record):
    """What is compared of a file: octal mode, owner and group by number, size in bytes, sha256 where it was needed."""

    type: str
    mode: str
    owner: str
    size: int
    sha256: str = ""


class Change(_Record):
    """A value that is not the same in both; None where it is not there."""

    what: str
    old: str | None
    new: str | None


class FileChange(_Record):
    """A file that is not the same in both; None where it is not there. A file of the ESP is called esp:/PATH."""

    path: str
    old: FileState | None
    new: FileState | None


class Difference(_Record):
    """Everything that differs. disk: partition table, file systems, boot code; packages by their version."""

    disk: tuple[Change, ...]
    packages: tuple[Change, ...]
    files: tuple[FileChange, ...]

    def __bool__(self) -> bool:
        return bool(self.disk or self.packages or self.files)


@dataclass(frozen=True)
class _Files:
    """The files of one disk: states without sums, and how to get at the sums of some."""

    states: Mapping[str, FileState]
    systems: Mapping[str, tuple[FileSystem, Mapping[str, Entry]]]

    @classmethod
    def of(cls, disk: Disk) -> _Files:
        """Raises InspectError where there is no file system that can be read."""
        if not disk.ext4 and not disk.esp:
            raise InspectError("there is no ext4 and no FAT file system in it, and no other can be compared")
        main = disk.root or next(iter(disk.ext4.values()), None)
        systems = {
            "" if system is main else f"partition at {start}:": (system, system.walk())
            for start, system in disk.ext4.items()
        }
        states = {
            f"{prefix}{path}": _state(entry)
            for prefix, (_, entries) in systems.items()
            for path, entry in entries.items()
        }
        return cls(states, systems)

    def with_sums(self, paths: set[str]) -> dict[str, FileState]:
        """The states, with the sha256 of these paths."""
        found = dict(self.states)
        for prefix, (system, entries) in self.systems.items():
            wanted = {path: entry for path, entry in entries.items() if f"{prefix}{path}" in paths}
            for path, sha256 in system.digests(wanted).items():
                found[f"{prefix}{path}"] = found[f"{prefix}{path}"].model_copy(update={"sha256": sha256})
        return found


def compare(old: Disk, new: Disk) -> Difference:
    """Compare two opened images. Raises InspectError, CommandError."""
    return Difference(
        disk=tuple(changes(_layout(old), _layout(new))),
        packages=tuple(changes(_versions(old), _versions(new))),
        files=tuple(_file_changes(old, new)),
    )


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    """What is in one only, or has another value."""
    for what in sorted(old.keys() | new.keys()):
        if old.get(what) != new.get(what):
            yield Change(what=what, old=old.get(what), new=new.get(what))


def _versions(disk: Disk) -> dict[str, str]:
    status = (disk.root and disk.root.text(dpkg.STATUS)) or ""
    return {package.name: package.version for package in dpkg.installed(status)}


def _layout(disk: Disk) -> dict[str, str]:
    found = {
        "size": str(disk.size),
        "partition table": disk.table,
        "boot code": hashlib.sha256(disk.boot_code).hexdigest(),
    }
    for number, partition in enumerate(disk.partitions, 1):
        found |= {f"partition {number}: {what}": str(value) for what, value in partition if value != ""}
        if not partition.filesystem:
            found[f"partition {number}: content"] = disk.sha256_of(partition)
    return found


def _file_changes(old: Disk, new: Disk) -> Iterator[FileChange]:
    olds, news = _Files.of(old), _Files.of(new)
    # The content of all others is known to differ, or there is none to compare.
    alike = {path for path, state in olds.states.items() if state.size and news.states.get(path) == state}
    with ThreadPoolExecutor(2) as pool:
        before, after = pool.map(lambda files: files.with_sums(alike), (olds, news))
    before, after = before | _esp(old), after | _esp(new)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            yield FileChange(path=path, old=before.get(path), new=after.get(path))


def _state(entry: Entry) -> FileState:
    return FileState(
        type=_KINDS.get(stat.S_IFMT(entry.mode), "unknown"),
        mode=f"{stat.S_IMODE(entry.mode):04o}",
        owner=f"{entry.owner}:{entry.group}",
        size=entry.size,
    )


def _esp(disk: Disk) -> dict[str, FileState]:
    return {
        f"esp:{path}": FileState(type="file", mode="", owner="", size=size, sha256=sha256)
        for path, (size, sha256) in disk.esp.items()
    }
