"""Debian's archive as apt sees it, for a system that is not there: what it would install, and the packages themselves.

apt works in a directory of its own, where it knows what it is told and nothing of the build host. It verifies every
index against Debian's keyring, and each package against an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from config.door import run
from images import sources
from images.cache import Cache
from images.jobs import explain
from images.proxies import proxy_environment

_ESSENTIAL = "?and(?architecture(amd64),?essential)"
"""apt-patterns(7): what every Debian system has."""
_PRINTED = re.compile(r"^'(\S+)' (\S+)_(\S+)_[a-z0-9]+\.deb \d+ (?:SHA256:([0-9a-f]{64}))?$", re.MULTILINE)
_KIND = "archive"
"""Of the layers that packages are, each under its sha256."""
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Archive:
    """An archive with its sources.list(5) lines. scratch: a directory for apt's room, which is made when it is asked.

    Whatever is asked raises BuildError, MirrorError where the archive cannot be reached or does not verify.
    """

    mirror: sources.Mirror
    lines: Sequence[str]
    scratch: Path

    @property
    def conf(self) -> Path:
        """apt's configuration (APT_CONFIG), once something was asked."""
        return self._room / "apt.conf"

    def to_install(self, packages: Sequence[str], preferences: str, status: str = "") -> str:
        """`apt-get --print-uris` for a system with these packages; which versions, apt_preferences(5) say.

        status: what dpkg knows of the system; without it, a new one is made.
        """
        self.prepare(preferences, status)
        names = packages if status else (_ESSENTIAL, "apt", *packages)
        return self._ask("apt-get", "--quiet", "--quiet", "--yes", "--print-uris", "install", *names)

    def records(self, versions: Sequence[str]) -> str:
        """`apt-cache show` for each NAME=VERSION that there is."""
        self.prepare()
        return self._ask("apt-cache", "show", *versions, check=False)

    def policy(self, packages: Iterable[str]) -> str:
        """`apt-cache policy`: where each version of these could come from, as of the last question."""
        return self._ask("apt-cache", "policy", *packages)

    def fetch(self, printed: str, cache: Cache) -> dict[str, str]:
        """Have in the cache what to_install() has printed; gives the sha256 (hex) of each package by its name."""
        rows = [row for row in parse_printed(printed) if row.sha256]
        chosen = {row.sha256: row.uri for row in rows}
        with cache.lock(_KIND, "fetching", waiting=lambda: None):
            self._fetch({sha256: uri for sha256, uri in chosen.items() if not place(sha256, cache).is_file()}, cache)
        note_use(chosen, cache)
        return {row.name: row.sha256 for row in rows}

    def prepare(self, preferences: str = "", status: str = "") -> None:
        """Make apt's room if need be, and let apt know these preferences and that system."""
        is_new = not self.conf.exists()
        if is_new:
            self._make_room()
        (self._room / "preferences").write_text(preferences)
        (self._room / "status").write_text(status)
        if is_new:
            # An index that could not be had is an error here, and to apt a warning.
            self._ask("apt-get", "--quiet", "--quiet", "-o", "APT::Update::Error-Mode=any", "update")

    @property
    def _room(self) -> Path:
        return self.scratch / "apt"

    def _make_room(self) -> None:
        for name in ("etc", "state/lists/partial", "cache/archives/partial"):
            (self._room / name).mkdir(parents=True)
        (self._room / "sources.list").write_text("".join(f"{line}\n" for line in self.lines))
        settings = (
            f'Dir::Etc "{self._room}/etc";',
            f'Dir::Etc::SourceList "{self._room}/sources.list";',
            f'Dir::Etc::Preferences "{self._room}/preferences";',
            f'Dir::State "{self._room}/state";',
            f'Dir::State::Status "{self._room}/status";',
            f'Dir::Cache "{self._room}/cache";',
            'APT::Architecture "amd64";',
            'APT::Architectures { "amd64"; };',
            'APT::Install-Recommends "false";',
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            'Acquire::ForceHash "SHA256";',
            *sources.apt_options(self.mirror),
        )
        self.conf.write_text("".join(f"{line}\n" for line in settings))

    def _fetch(self, missing: dict[str, str], cache: Cache) -> None:
        partial = self._room / "fetched"
        partial.mkdir(exist_ok=True)
        triples = [word for sha256, uri in missing.items() for word in (uri, str(partial / sha256), f"SHA256:{sha256}")]
        if missing:
            self._ask(sources.APT_HELPER, "download-file", *triples)
        for sha256 in missing:
            cache.publish(partial / sha256, _KIND, sha256)

    def _ask(self, *argv: str, check: bool = True) -> str:
        env = {"APT_CONFIG": str(self.conf), **proxy_environment()}
        done = run(argv, check=False, timeout=_TIMEOUT, env=env)
        if check and done.returncode != 0:
            raise explain(done.stderr)
        return done.stdout


class Printed(NamedTuple):
    """A package that apt would fetch; sha256 in hex, empty where apt knows none."""

    uri: str
    name: str
    version: str
    sha256: str


def parse_printed(text: str) -> list[Printed]:
    """What `apt-get --print-uris install` has printed."""
    return [Printed(uri, name, unquote(version), sha256) for uri, name, version, sha256 in _PRINTED.findall(text)]


def place(sha256: str, cache: Cache) -> Path:
    """Where the cache has a package, if it does."""
    return cache.layer(_KIND, sha256)


def note_use(packages: Iterable[str], cache: Cache) -> None:
    """Let the cache know that these (sha256, hex) are used."""
    for sha256 in packages:
        with cache.lock(_KIND, sha256, waiting=lambda: None):
            pass
