"""What of this host a builder's container is given: who the caller is, and how the host's apt reaches its mirror."""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from docker.types import Mount

from config.model import Debian
from images import sources
from images.errors import MirrorError
from images.files import File, render
from images.jobs import REPOSITORY
from images.proxies import proxy_environment

INSIDE = "/run/xenpair"
"""Where in a container all stands that is only for its time."""
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian releases whose tools build an image, and their Python."""

_SOURCES = REPOSITORY / "templates/image/etc/apt/sources.list.d/debian.sources.j2"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NAMED_FILE = re.compile(r'^Acquire::https::(?:\S+::)?(?:CaInfo|SslCert|SslKey|IssuerCert|CrlFile) "(/.+)";$', re.I)  # noqa: FURB167
_UNUSED = "100000:65536"
"""Of a user without subordinate ids: those that adduser(8) gives to the first one."""


@dataclass(frozen=True)
class Caller:
    """Who gets the files. subordinate: FIRST:COUNT, ids for the other users of the tree that an image is made of."""

    uid: int
    gid: int
    subordinate: str = _UNUSED

    @classmethod
    def here(cls) -> Caller:
        """This process's user, with the same ids that a build without a container takes for him."""
        uid = os.geteuid()
        names = {str(uid)} | {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == uid}
        try:
            table = Path("/etc/subuid").read_text()
        except OSError:
            table = ""
        return cls(uid, os.getegid(), subordinate(table, names))


def subordinate(table: str, names: set[str]) -> str:
    """A user's range in the text of subuid(5), as FIRST:COUNT; names: his name and his number."""
    rows = (line.partition(":") for line in table.splitlines())
    return next((found for name, _, found in rows if name in names), _UNUSED)


def suite() -> str:
    """The release of this host where it is one that builds: the same tools give the same bits. Else the newest."""
    release = Path("/etc/os-release")
    text = release.read_text() if release.is_file() else ""
    match = re.search(r"^VERSION_CODENAME=(\w+)$", text, re.MULTILINE)
    return match[1] if match and match[1] in SUITES else max(SUITES)


def mirror() -> sources.Mirror | None:
    """Debian's mirror of this host's apt; None without such a thing, as on a Mac."""
    if shutil.which("apt-get") is None:
        return None
    try:
        return sources.resolve(Debian())
    except MirrorError:
        return None


@dataclass(frozen=True)
class Apt:
    """The settings of a container's apt."""

    mirror: sources.Mirror | None
    options: Sequence[str]
    certificates: Path | None

    @classmethod
    def here(cls) -> Apt:
        """Those of this host."""
        found = mirror()
        options = sources.apt_options(found) if shutil.which("apt-config") else []
        proxies = proxy_options(proxy_environment())
        return cls(found, [*proxies, *options], _CERTIFICATES if _CERTIFICATES.is_file() else None)

    def sources_for(self, release: str) -> tuple[sources.Source, ...]:
        """Where the packages of a release come from; none where the container's own settings have to do."""
        if self.mirror is None:
            return ()
        return (
            sources.Source(self.mirror.main, (release, f"{release}-updates"), ("main",)),
            sources.Source(self.mirror.security, (f"{release}-security",), ("main",)),
        )

    def mounts(self, release: str, directory: Path) -> list[Mount]:
        """Files, written to directory for the caller alone, in the places where a container's apt looks for them.

        Nothing of it enters the environment, an argv or an image: a proxy's address may hold a password.
        """
        named = {match[1] for line in self.options if (match := _NAMED_FILE.match(line))}
        found = [shown(Path(path), path) for path in sorted(named) if Path(path).is_file()]
        lines = list(self.options)
        if self.certificates is not None and not named:
            # A bare Debian trusts nobody.
            lines.insert(0, f'Acquire::https::CaInfo "{INSIDE}/certificates";')
            found.append(shown(self.certificates, f"{INSIDE}/certificates"))
        found.append(shown(written(directory / "apt.conf", "\n".join(lines) + "\n"), "/etc/apt/apt.conf.d/90xenpair"))
        if wanted := self.sources_for(release):
            text = render(File.read(_SOURCES), {"sources": wanted, "keyring": sources.KEYRING}).decode()
            found.append(shown(written(directory / "sources", text), "/etc/apt/sources.list.d/debian.sources"))
        return found


def proxy_options(environment: Mapping[str, str]) -> list[str]:
    """The proxy variables as apt.conf(5) says it; of no_proxy those that are plain host names."""
    found = [
        f'Acquire::{scheme}::Proxy "{environment[name]}";'
        for scheme in ("http", "https")
        if environment.get(name := f"{scheme}_proxy")
    ]
    direct = [name for name in re.split(r"[ ,]+", environment.get("no_proxy", "")) if re.fullmatch(r"\w[\w.-]*", name)]
    return found + [f'Acquire::{scheme}::Proxy::{name} "DIRECT";' for name in direct for scheme in ("http", "https")]


def shown(source: Path, target: str, *, writable: bool = False) -> Mount:
    """A file or directory of this host at a place in a container."""
    return Mount(target, str(source), type="bind", read_only=not writable)


def written(path: Path, text: str) -> Path:
    """A new file that only the caller can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path
