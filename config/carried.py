"""The files that a config names by plain name: beside it on the build host, carried to the nodes by the seed medium."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from config.capacity import about
from config.debian_files import located, unusable_files
from config.document import parse, read
from config.findings import ConfigError, Finding, Location
from config.guest import Guest, is_carried
from config.loader import Loaded
from config.sizes import format_size

MAX_FILE = (4 << 30) - 1
"""Bytes. A FAT directory entry counts a file's size in 32 bits (Microsoft, FAT: General Overview, DIR_FileSize)."""

_QCOW_MAGIC = b"QFI\xfb"
"""Then a version of 4 bytes and, from byte 24, the size of the disk in 8 bytes, big-endian (QEMU: interop/qcow2)."""
_QCOW_SIZE = slice(24, 32)


def beside(config_file: Path, file: str) -> Path:
    """Where a file of that plain name lies on the build host."""
    return config_file.parent / file


def require_files(loaded: Loaded) -> None:
    """Raises ConfigError with all that check_files() finds."""
    if faults := check_files(loaded):
        raise ConfigError(faults)


def check_files(loaded: Loaded) -> list[Finding]:
    """One error for each file of this host that is not there or cannot be carried or used; at its line."""
    document = parse(read(loaded.source), str(loaded.source))
    build = unusable_files(located(loaded.cluster.debian, loaded.source.parent))
    faults = [*_faults(loaded), *((problem.where, problem.problem, problem.remedy) for problem in build)]
    return [document.finding(where, problem, remedy) for where, problem, remedy in faults]


def _faults(loaded: Loaded) -> Iterator[tuple[Location, str, str]]:
    reported = set()
    for i, guest in enumerate(loaded.cluster.guests):
        for below, file in guest.named_files():
            if not is_carried(file) or file in reported:
                continue
            where, path = ("guests", i, *below), beside(loaded.source, file)
            fault = _unfit(path) or (_too_large_for(guest, path) if below[-1] == "image" else None)
            if fault is not None:
                reported.add(file)
                yield where, *fault


def _unfit(path: Path) -> tuple[str, str] | None:
    elsewhere = "put it beside the config, or give an absolute path where it lies on both nodes"
    try:
        found = path.stat()
        with path.open("rb"):
            pass
    except FileNotFoundError:
        return f"{path} does not exist", elsewhere
    except IsADirectoryError:
        return f"{path} is a directory", elsewhere
    except OSError as e:
        return f"{path} cannot be read: {e.strerror}", "make it readable for this user"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a plain file", elsewhere
    if found.st_size > MAX_FILE:
        problem = f"{path} has {about(found.st_size)}, and the FAT of the seed medium holds files of less than 4G"
        return problem, "pack it (a tarball as .tar.xz, an image as compressed qcow2), or give an absolute path"
    return None


def _too_large_for(guest: Guest, image: Path) -> tuple[str, str] | None:
    size = disk_size(image)
    if size <= guest.disk:
        return None
    problem = f"{image} is the image of a disk of {about(size)}, and {guest.name}'s has {format_size(guest.disk)}"
    return problem, f"give {guest.name} a disk of {about(size)} or more"


def disk_size(image: Path) -> int:
    """Bytes of the disk that a raw or qcow2 image stands for."""
    with image.open("rb") as f:
        head = f.read(_QCOW_SIZE.stop)
    if head.startswith(_QCOW_MAGIC) and len(head) == _QCOW_SIZE.stop:
        return int.from_bytes(head[_QCOW_SIZE], "big")
    return image.stat().st_size
