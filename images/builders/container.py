"""A build in a container: the same code and command, on the same files, as the same user."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docker.types import Mount

from config import secrets
from config.door import write_file
from config.loader import Loaded
from images import gpg
from images.builders.engine import Container, Engine, Line, Rights
from images.builders.host import INSIDE, Apt, Caller, shown
from images.builders.image import FILES, Recipe, builder_image
from images.cache import Cache
from images.deb import commit_time
from images.errors import BuildError
from images.jobs import REPOSITORY
from images.manifest import SUMS, SUMS_GPG
from images.progress import Progress

ROOM = f"{INSIDE}/host"
"""Below it each directory stands at the path that it has on the host, so that messages only need this cut off."""
ENTER = "templates/build/enter"
VOLUME = "xenpair-cache"
BUILDS = Rights((*FILES, "SYS_ADMIN"), mounts=True)
"""SYS_ADMIN: for the mount, process and user namespaces that a build makes (unshare(2), mount(2))."""


@dataclass(frozen=True)
class Site:
    """The directories of one build, absolute."""

    config: Path
    out: Path
    cache: Path

    @classmethod
    def of(cls, loaded: Loaded, out: Path, cache: Path) -> Site:
        """Those of a build here."""
        return cls(loaded.source.resolve(), out.resolve(), cache.resolve())

    def mounts(self, *, native: bool) -> list[Mount]:
        """What the container sees of them: nothing that it may change but secrets, out and cache.

        Where the engine is in a virtual machine, the cache is a volume of the engine's: the host's file system is only
        passed on to it, and then knows no owners, and on a Mac no case.
        """
        places = {REPOSITORY: False, self.config.parent: False, self.config.parent / "secrets": True, self.out: True}
        mounts = [shown(place, inside(place), writable=writable) for place, writable in places.items()]
        if native:
            return [*mounts, shown(self.cache, CACHE, writable=True)]
        return [*mounts, Mount(CACHE, VOLUME, type="volume")]


def inside(path: Path) -> str:
    """Where a path of the host is in the container."""
    return f"{ROOM}{path}"


CACHE = inside(REPOSITORY / ".cache")
"""Where the command inside looks for it."""


def build_in_container(
    engine: Engine,
    loaded: Loaded,
    words: Sequence[str],
    site: Site,
    *,
    suite: str,
    progress: Progress,
    gpg_key: str = "",
) -> int:
    """Run `invoke WORDS` on the site in a container of that Debian release; its exit code.

    What it says is said here as it comes; with gpg's gpg_key, where one is named, the sums are signed out here, where
    its agent is. Raises BuildError where it does not get so far.
    """
    if gpg_key:
        gpg.check(gpg_key)
    try:
        for directory in (site.out, site.cache, REPOSITORY / ".cache"):
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BuildError(f"{e.filename} cannot be made: {e.strerror}", hint="choose another directory") from e
    # Their directory has to be there, as private as it must be, before it can be mounted.
    secrets.ensure(loaded.cluster, site.config.parent / "secrets")
    code = _run(engine, words, site, suite, progress)
    if gpg_key and code == 0:
        write_file(site.out / SUMS_GPG, gpg.sign((site.out / SUMS).read_text(), gpg_key))
    return code


def _run(engine: Engine, words: Sequence[str], site: Site, suite: str, progress: Progress) -> int:
    apt = Apt.here()
    image = builder_image(engine, Recipe.of(suite, apt), Cache(site.cache), progress)
    caller = Caller(0, 0) if engine.rootless else Caller.here()
    with tempfile.TemporaryDirectory(prefix="xenpair-apt-") as scratch:
        wanted = Container(
            image=image,
            command=entered(caller, words, site, native=engine.native),
            mounts=[*site.mounts(native=engine.native), *apt.mounts(suite, Path(scratch))],
            rights=BUILDS,
            environment=_environment(),
            directory=inside(REPOSITORY),
        )
        progress.note(f"building in a container of {image}")
        with engine.container(wanted) as identifier:
            return engine.run(identifier, relay)


def entered(caller: Caller, words: Sequence[str], site: Site, *, native: bool) -> list[str]:
    """The argv of a container that runs `invoke WORDS` as the caller, on the site."""
    who = [str(caller.uid), str(caller.gid), *caller.subordinate.split(":")]
    volume = "" if native else CACHE
    places = ["--builder", "local", "--config", inside(site.config), "--out", inside(site.out)]
    return ["sh", inside(REPOSITORY / ENTER), *who, volume, "/opt/xenpair/bin/invoke", *words, *places]


def _environment() -> dict[str, str]:
    """SOURCE_DATE_EPOCH stands for git, whose directories may lie anywhere on the host."""
    committed = commit_time(REPOSITORY)
    date = {"SOURCE_DATE_EPOCH": str(committed)} if committed else {}
    return {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **date}  # noqa: S108


def relay(line: Line) -> None:
    """Pass on what a container says, with the paths of the host."""
    stream = sys.stderr if line.error else sys.stdout
    stream.write(line.text.replace(ROOM, "") + "\n")
    stream.flush()
