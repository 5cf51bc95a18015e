"""manifest.json and SHA256SUMS: what an image is made of, and whether the files beside it are still those."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

NAME = "manifest.json"
SUMS = "SHA256SUMS"
SUMS_SIGNATURE = "SHA256SUMS.sig"
SUMS_GPG = "SHA256SUMS.asc"
SBOM = "sbom.cdx.json"
_CHUNK = 1 << 20


class Artifact(BaseModel):
    """A file beside the manifest: size in bytes, sha256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """The whole of manifest.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    suite: str
    key: str
    """Content key of everything that went into the disk."""
    release: bool = False
    """Whether the artifacts are compressed hard."""
    config_hash: str
    """Hash of the config that the seed medium holds."""
    root_uuid: str
    kernel: str
    installer: str = ""
    """Content key of the installer beside it; empty without one."""
    medium_date: int = 0
    """Of the install medium that its boot loaders look for, in seconds since the epoch."""
    warnings: tuple[str, ...]
    """What the mirror lacked, and what was brought in vain."""
    sources: tuple[str, ...]
    """Where the packages came from, as sources.list lines."""
    artifacts: dict[str, Artifact]
    packages: dict[str, str]
    """Package -> version."""
    origins: dict[str, str] = {}
    """Package -> where that version came from: a suite of Debian's, or what else the config says."""
    modules: dict[str, str] = {}
    """NAME/VERSION of a kernel module that DKMS built -> where its source came from."""

    def to_json(self) -> str:
        """Readable, and the same for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def read(directory: Path) -> Manifest | None:
    """The manifest in that directory; None where there is none that this version understands."""
    try:
        return Manifest.model_validate_json((directory / NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def stands(manifest: Manifest, directory: Path) -> bool:
    """Whether every artifact is there with its size, and SHA256SUMS too. Contents are not read: that takes seconds."""
    sizes = {name: (directory / name) for name in manifest.artifacts}
    return (directory / SUMS).is_file() and all(
        path.is_file() and path.stat().st_size == manifest.artifacts[name].size for name, path in sizes.items()
    )


def sums(manifest: Manifest) -> str:
    """SHA256SUMS as sha256sum(1) checks it; the manifest itself included."""
    lines = [f"{artifact.sha256}  {name}" for name, artifact in sorted(manifest.artifacts.items())]
    lines.append(f"{hashlib.sha256(manifest.to_json().encode()).hexdigest()}  {NAME}")
    return "\n".join(lines) + "\n"


def measure(path: Path, *, cancelled: Callable[[], bool] = lambda: False) -> Artifact:
    """Size and sha256 of a file; stops early, with a useless sum, once cancelled() says so."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        if cancelled():
            break
        digest.update(chunk)
    return Artifact(size=path.stat().st_size, sha256=digest.hexdigest())


def _chunks(path: Path) -> Iterator[bytes | memoryview]:
    """The content of a file; its holes are not read, which for a sparse disk image is most of it."""
    zeros = memoryview(bytes(_CHUNK))
    with path.open("rb") as f:
        at, size = 0, path.stat().st_size
        while at < size:
            data = next_data(f.fileno(), at, size)
            while at < data:
                yield zeros[: data - at]
                at += len(zeros[: data - at])
            hole = os.lseek(f.fileno(), at, os.SEEK_HOLE) if at < size else size
            f.seek(at)
            while at < hole:
                yield (chunk := f.read(min(_CHUNK, hole - at)))
                at += len(chunk)


def next_data(fd: int, at: int, size: int) -> int:
    """Where the next stretch begins that is no hole, from at on; size where there is none."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as e:
        if e.errno == errno.ENXIO:
            return size
        raise
