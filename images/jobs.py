"""What the build asks for from inside the namespace: plain data, sent as JSON to `python -m images.inside`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from config.door import run
from config.errors import CommandError
from images import namespace
from images.errors import BuildError, MirrorError, SpaceError
from images.proxies import proxy_environment

REPOSITORY = Path(__file__).resolve().parent.parent


TAR = "rootfs.tar"
RAW = "disk.raw"
TOOLS = "tools"
STATUS = "status"
"""What a layer of a root file system holds: the tree, a disk that is filled with it, programs, and dpkg's record."""
CHANGES = "changes"
FILES = "files"
"""What the layer of an installed package holds: requests for debugfs, and the contents that these write."""


@dataclass(frozen=True)
class RootfsJob:
    """Install packages into a tree, put files over it, settle it, pack it into layer. date: see images.tree.

    key: of the layer; base: the tar of a tree to begin with, or empty; room: a directory for decompressed packages;
    wanted: those that were asked for by name; modules: argv that builds kernel modules in the tree, which is added to
    it, or nothing; and the configuration of the apt that this uses.
    """

    tree: str
    base: str
    layer: str
    room: str
    debs: tuple[str, ...]
    wanted: tuple[str, ...]
    files: str
    date: int
    key: str
    modules: tuple[str, ...]
    apt_conf: str


@dataclass(frozen=True)
class InstalledJob:
    """Install our package upon a tree, and put what that changes into layer; room: names of the files to come later."""

    tree: str
    tar: str
    deb: str
    layer: str
    room: tuple[str, ...]
    date: int


@dataclass(frozen=True)
class InstallerJob:
    """Make, out of a tree, what an installation boots with; date (seconds since the epoch) names its medium."""

    tree: str
    tar: str
    layer: str
    date: int


@dataclass(frozen=True)
class CodeJob:
    """Pack our files as an initramfs archive, their Python compiled by that of a tree."""

    tree: str
    tar: str
    files: str
    archive: str
    date: int


@dataclass(frozen=True)
class DifferenceJob:
    """Say in a report what differs between two artifacts, unpacked below a directory."""

    one: str
    other: str
    directory: str
    report: str


Job = RootfsJob | InstalledJob | InstallerJob | CodeJob | DifferenceJob


@dataclass(frozen=True)
class Result:
    """What the build wants to know of the tree: package -> version, its kernel, and the files below /boot."""

    packages: dict[str, str] = field(default_factory=dict)
    kernel: str = ""
    boot: list[str] = field(default_factory=list)


def run_inside(job: Job, *, timeout: float) -> Result:
    """Do a job in namespaces of its own and wait for its end (timeout in seconds).

    Raises BuildError, with the reason that the tools inside gave.
    """
    argv = namespace.isolated([sys.executable, "-m", "images.inside", type(job).__name__])
    modules = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])
    environment = {"PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1", **proxy_environment()}
    done = run(argv, check=False, timeout=timeout, stdin=json.dumps(asdict(job)), cwd=Path("/"), env=environment)
    if done.returncode != 0:
        raise explain(done.stderr)
    return Result(**json.loads(done.stdout))


@contextlib.contextmanager
def explaining() -> Iterator[None]:
    """Around tools that run outside of the namespace: raises the error that their failure stands for."""
    try:
        yield
    except CommandError as e:
        raise explain(e.message) from e
    except OSError as e:
        raise explain(str(e)) from e


def explain(stderr: str) -> BuildError:
    """The error that the output of failed tools stands for."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    tail = "\n".join(f"  {line}" for line in lines[-20:])
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        return SpaceError(f"no space left while building the image\n{tail}", hint="make room, then run the build again")
    if error := _module_error(lines) or _dependency_error(lines):
        return error
    if any("NO_PUBKEY" in line or "is not signed" in line or "BADSIG" in line for line in lines):
        return MirrorError(
            f"the archive does not verify against Debian's keyring\n{tail}",
            hint="update the package debian-archive-keyring, or choose another mirror",
        )
    if any("Failed to fetch" in line or "Unable to locate package" in line for line in lines):
        return MirrorError(
            f"the mirror did not deliver\n{tail}", hint="check the network and debian.mirror, then retry"
        )
    return BuildError(f"the build failed\n{tail}")


def _module_error(lines: Sequence[str]) -> BuildError | None:
    """Of templates/build/dkms, which has the compiler's words before its own."""
    failed = next((i for i, line in enumerate(lines) if "E: the kernel module " in line), None)
    if failed is None:
        return None
    log = "\n".join(f"  {line.strip()}" for line in lines[max(failed - 15, 0) : failed])
    return BuildError(
        f"{lines[failed].partition('E: ')[2]}:\n{log}",
        hint="correct its package, or leave it out of the config; a node would not have had it either",
    )


def _dependency_error(lines: Sequence[str]) -> BuildError | None:
    if not any(re.search("(unmet|unsatisfied) dependencies", line, re.IGNORECASE) for line in lines):
        return None
    unmet = "\n".join(f"  {line.strip()}" for line in lines if re.search(r"(Depends|Conflicts|Breaks): ", line))
    return BuildError(
        f"packages that the config names do not fit together with the rest:\n{unmet}",
        hint="a package taken as it is may need what this suite lacks: rebuild it (debian.backports), or bring that",
    )
