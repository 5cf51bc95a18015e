"""A package pool: a directory of .deb files with an index that apt verifies, signed by the key of this cache.

The key lies in the cache, as the pools do: it says that a pool is what was made here, and nothing to anybody else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from config.door import run, write_file
from images import namespace
from images.cache import Cache
from images.errors import BuildError
from images.jobs import REPOSITORY

SCRIPT = REPOSITORY / "templates" / "build" / "seal"
_INDEX, _SIGNED = "Packages", "InRelease"
_ENTRY = re.compile(r"^Package: (\S+)$(?:\n.+)*?\nVersion: (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Pool:
    """A sealed pool, and what the manifest calls each package in it: name -> where it came from."""

    directory: Path
    key: Path
    origins: Mapping[str, str]

    @property
    def one_line(self) -> str:
        """For sources.list(5)."""
        return f"deb [signed-by={self.key}] {self.uri} ./"

    @property
    def uri(self) -> str:
        """What apt calls it."""
        return f"copy:{self.directory}"

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version."""
        return versions(self.directory)

    def verify(self) -> None:
        """Raise BuildError unless its index is as it was sealed; apt then verifies the packages by it."""
        if run(["gpgv", "--keyring", self.key, self.directory / _SIGNED], check=False).returncode != 0:
            raise BuildError(
                f"the packages in {self.directory} are not signed by the key of this cache",
                hint=f"something changed them; `rm -r {self.directory}`, and the next build makes them anew",
            )


def versions(directory: Path) -> dict[str, str]:
    """Package -> version of what a pool's index lists."""
    return dict(_ENTRY.findall((directory / _INDEX).read_text()))


def public_key(cache: Cache) -> Path:
    """The file that apt and gpgv verify this cache's pools with."""
    return cache.root / "keys" / "pool.gpg"


def seal(directory: Path, cache: Cache) -> None:
    """Write the index of the packages in a directory, and sign it."""
    index = run(["dpkg-scanpackages", "--multiversion", "."], cwd=directory).stdout
    write_file(directory / _INDEX, index)
    public = public_key(cache)
    secret, release = public.with_suffix(".secret"), directory / "Release"
    write_file(release, release_file(index))
    public.parent.mkdir(parents=True, exist_ok=True)
    with cache.lock("keys", "pool", waiting=lambda: None):
        run(namespace.isolated(["sh", SCRIPT, secret, public, release, directory / _SIGNED]))


def release_file(index: str) -> str:
    """The Release of a pool with that index (DebianRepository/Format, "Release" files)."""
    data = index.encode()
    return (
        f"Origin: xenpair\nLabel: xenpair\nDate: {formatdate(usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} {_INDEX}\n"
    )
