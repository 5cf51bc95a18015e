"""What this host lacks for building, serving and writing sticks, each with the command that mends it.

What each of them takes stands in images.preflight, whose checks they make themselves before they begin.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from config.errors import XenpairError
from config.model import Debian
from images import preflight, sources
from images.builders import choice


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: as it should be, missing, or worth a note.

    mend says what to do about it; where a Debian package is all that is missing, package names that.
    """

    area: str
    what: str
    state: Literal["ok", "missing", "note"] = "ok"
    mend: str = ""
    package: str = ""


def build(debian: Debian, cache: Path, out: Path) -> Iterator[Finding]:
    """What a build of a disk image takes: programs and namespaces, or a Docker engine in the place of both."""
    own = [
        *programs("build", preflight.build_needs(())),
        check("build", "namespaces of its own", preflight.check_namespaces),
    ]
    docker = check("build", "a Docker engine", choice.connect)
    lacking = [finding for finding in own if finding.state == "missing"]
    if docker.state == "ok" and lacking:
        where = "a build takes place in a container for lack of it"
        own = [replace(finding, state="note", mend=where) if finding in lacking else finding for finding in own]
    elif docker.state == "missing":
        docker = replace(docker, what=f"{docker.what}: no --builder docker", state="note", mend="")
    yield from own
    yield docker
    yield _space("build", (cache, preflight.ROOTFS_SPACE + preflight.TREE_SPACE), (out, preflight.OUT_SPACE))
    yield check("build", f"Debian's archive, {debian.suite}", lambda: _ask_mirror(debian))


def media(out: Path) -> Iterator[Finding]:
    """What the formats iso and netboot take on top."""
    yield from programs(
        "media", {what: package for needs in preflight.FORMATS.values() for what, package in needs.items()}
    )
    yield _space("media", (out, preflight.PAYLOAD_SPACE))


def serve() -> Iterator[Finding]:
    """What an installation over the network takes."""
    yield from programs("serve", preflight.SERVE)
    yield from _root("serve", "DHCP and TFTP")


def write_usb() -> Iterator[Finding]:
    """What writing a stick takes."""
    yield from programs("write-usb", preflight.WRITE_USB)
    yield from _root("write-usb", "a stick")


def programs(area: str, needs: Mapping[str, str]) -> Iterator[Finding]:
    """One finding for all that is there, and one for each that is not."""
    lacking = preflight.missing(needs)
    if there := [Path(what).name for what in needs if what not in lacking]:
        yield Finding(area, ", ".join(there))
    for what, package in lacking.items():
        yield Finding(area, f"{what} is not there", "missing", package=package)


def check(area: str, what: str, ask: Callable[[], object], *, mend: str = "") -> Finding:
    """What a check says that raises XenpairError where it does not hold. Its hint is what to do, unless mend is."""
    try:
        ask()
    except XenpairError as e:
        return Finding(area, e.message, "missing", mend=mend or e.hint)
    return Finding(area, what)


def _space(area: str, *needs: tuple[Path, int]) -> Finding:
    # Where a directory is still to be made, its file system is that of the nearest one that is there.
    there = [(next(path for path in (place, *place.parents) if path.is_dir()), size) for place, size in needs]
    ask = functools.partial(preflight.check_space, there)
    return check(area, "disk space", ask, mend=".venv/bin/invoke cache --prune --older-than 1d")


def _ask_mirror(debian: Debian) -> None:
    mirror = sources.resolve(debian)
    with tempfile.TemporaryDirectory() as directory:
        sources.fetch(f"{mirror.main}/dists/{debian.suite}/InRelease", Path(directory) / "InRelease")


def _root(area: str, what: str) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding(area, f"{what} takes root", "note", mend=f"sudo .venv/bin/invoke {area}")
