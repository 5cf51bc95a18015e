"""The files of the build host that the dom0 is made of: where they are, and whether they can be used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from config.debian import Backport, Debian
from config.findings import Location
from config.loader import Loaded
from config.model import Cluster
from config.problems import Problem

_DSC_FILES = re.compile(r"^Checksums-Sha256:((?:\n .*)+)", re.MULTILINE)
_PUT = "put it there; the path counts from the config's directory, or is absolute"


def located(debian: Debian, directory: Path) -> Debian:
    """The same with every path absolute; directory: the config's."""

    def place(path: str) -> str:
        return os.path.abspath(directory / path)  # noqa: PTH100 - resolve() would follow links, whose names count

    backports = (
        wanted if wanted.source is None else wanted.model_copy(update={"source": place(wanted.source)})
        for wanted in debian.backports
    )
    files = (file.model_copy(update={"path": place(file.path)}) for file in debian.debs.files)
    repositories = (archive.model_copy(update={"key": place(archive.key)}) for archive in debian.debs.repositories)
    debs = debian.debs.model_copy(update={"files": tuple(files), "repositories": tuple(repositories)})
    return debian.model_copy(update={"backports": tuple(backports), "debs": debs})


def on_this_host(loaded: Loaded) -> Cluster:
    """The cluster of a config, with the paths of what the dom0 is made of absolute."""
    return loaded.cluster.model_copy(update={"debian": located(loaded.cluster.debian, loaded.source.parent)})


def unusable_files(debian: Debian) -> Iterator[Problem]:
    """Files that are not there, cannot be read, or are not of the package they are given for; paths are absolute."""
    debs: Location = ("debian", "debs")
    for i, file in enumerate(debian.debs.files):
        yield from _unreadable((*debs, "files", i, "path"), Path(file.path))
    for i, archive in enumerate(debian.debs.repositories):
        yield from _unreadable((*debs, "repositories", i, "key"), Path(archive.key))
    for i, wanted in enumerate(debian.backports):
        if wanted.source is not None:
            yield from _unusable_source(("debian", "backports", i, "source"), wanted, Path(wanted.source))


def source_files(dsc: Path) -> list[Path]:
    """The files that a .dsc names, which lie beside it."""
    match = _DSC_FILES.search(dsc.read_text(errors="replace"))
    return [dsc.parent / Path(line.split()[-1]).name for line in match[1].strip().splitlines()] if match else []


def _unreadable(where: Location, path: Path) -> Iterator[Problem]:
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        yield Problem(where, f"{path} does not exist", _PUT)
    except IsADirectoryError:
        yield Problem(where, f"{path} is a directory", "name the file in it")
    except OSError as e:
        yield Problem(where, f"{path} cannot be read: {e.strerror}", "make it readable for this user")


def _unusable_source(where: Location, wanted: Backport, path: Path) -> Iterator[Problem]:
    described = path / "debian" / "changelog" if path.is_dir() else path
    if faults := list(_unreadable(where, described)):
        yield from faults
        return
    text = described.read_text(errors="replace")
    match = re.match(r"(\S+) \(", text) if path.is_dir() else re.search(r"^Source: (\S+)$", text, re.MULTILINE)
    if match is None:
        problem = f"{path} is neither a .dsc nor a directory with a debian/changelog"
        yield Problem(where, problem, "name the .dsc of a source package, or its unpacked tree")
    elif match[1] != wanted.package:
        problem = f"{path} is the source of {match[1]}, not of {wanted.package}"
        yield Problem(where, problem, f"write `package: {match[1]}`, or name another source")
    elif not path.is_dir():
        for file in source_files(path):
            if not file.is_file():
                yield Problem(where, f"{path.name} names a file that is not there: {file}", "put it beside the .dsc")
