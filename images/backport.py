"""Packages of a newer suite for the image: rebuilt for its suite, as Debian's backports are, or taken as they are.

A source package is built in a root file system that is made for it and thrown away. What comes out is a layer: a small
package pool, from which the root file system takes what is newer there than in the mirror.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from config.door import run, write_file
from config.model import Backport, Debian
from images import namespace, sources
from images.cache import Cache, content_key
from images.errors import BuildError
from images.files import code
from images.jobs import REPOSITORY, explain
from images.progress import Progress

SCRIPT = REPOSITORY / "templates" / "build" / "backport"
SUFFIX = {"trixie": "~xenpair13+1"}
"""Of the version, by the suite that it is built for: lower than the version it comes from, so that an upgrade to the
newer suite replaces it (Debian's backports have ~bpo13+1)."""
_TIMEOUT = 3600.0
_SIGNED = f"[signed-by={sources.KEYRING}]"


@dataclass(frozen=True)
class Request:
    """One source package that is asked for. key: of all that goes into it but what the mirror holds today."""

    backport: Backport
    target: str
    mirror: sources.Mirror
    key: str

    @classmethod
    def of(cls, backport: Backport, debian: Debian, mirror: sources.Mirror) -> Request:
        """What the rebuild of this one for the suite of the image depends on."""
        inputs = {
            "backport": backport.model_dump(mode="json"),
            "target": debian.suite,
            "suffix": SUFFIX[debian.suite],
            "mirror": asdict(mirror),
            "script": SCRIPT.read_text(),
            "code": code(("backport.py", "sources.py")),
            "mmdebstrap": run(["mmdebstrap", "--version"]).stdout.strip(),
        }
        return cls(backport, debian.suite, mirror, content_key(inputs))


def pool(request: Request, cache: Cache, progress: Progress) -> Path:
    """A directory with the packages and their index, from the cache or newly made. Raises BuildError."""
    layer, name = cache.layer("backport", request.key), request.backport.package
    waiting = f"another build is bringing {name}; waiting for it"
    with cache.lock("backport", request.key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            with cache.scratch() as scratch, progress.stage(f"bringing {name} of {request.backport.suite}"):
                _make(request, scratch)
                cache.publish(scratch / "pool", "backport", request.key)
    return layer


def _make(request: Request, scratch: Path) -> None:
    made = scratch / "pool"
    made.mkdir()
    argv = rebuild_argv(request, made) if request.backport.rebuild else take_argv(request, made)
    env = {"TMPDIR": str(scratch), **sources.proxy_environment()}
    done = run(namespace.isolated(argv), check=False, timeout=_TIMEOUT, env=env)
    if done.returncode != 0:
        raise explain(done.stderr)
    index = run(["dpkg-scanpackages", "--multiversion", "."], cwd=made).stdout
    if not request.backport.rebuild and (other := foreign(index)):
        raise BuildError(
            f"{request.backport.package} of {request.backport.suite} is built for {other}",
            hint=f"such a package needs the libraries of {request.backport.suite}: rebuild it (`rebuild: true`)",
        )
    write_file(made / "Packages", index)


def foreign(index: str) -> str:
    """The architecture of a package in a Packages file that is not for all of them; empty where each one is."""
    return next((name for name in re.findall(r"^Architecture: (.+)$", index, re.MULTILINE) if name != "all"), "")


def rebuild_argv(request: Request, made: Path) -> list[str]:
    """mmdebstrap(1) for a build root of the image's suite, of which only the packages stay, in made."""
    backport, mirror = request.backport, request.mirror
    words = (backport.package, request.target, SUFFIX[request.target], "yes" if backport.tests else "no")
    return [
        *_mmdebstrap(mirror, "--variant=buildd"),
        f"--customize-hook=upload {shlex.quote(str(SCRIPT))} /backport-script",
        f'--customize-hook=chroot "$1" sh /backport-script {shlex.join(words)} >&2',
        f"--customize-hook=sync-out /backport {shlex.quote(str(made))}",
        request.target,
        "/dev/null",
        f"deb {_SIGNED} {mirror.main} {request.target} main",
        f"deb {_SIGNED} {mirror.security} {request.target}-security main",
        f"deb-src {_SIGNED} {mirror.main} {backport.suite} main",
    ]


def take_argv(request: Request, made: Path) -> list[str]:
    """mmdebstrap(1) for no root at all: its apt fetches the package into made, and has verified it."""
    backport = request.backport
    download = f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --quiet download {shlex.quote(backport.package)} >&2'
    return [
        *_mmdebstrap(request.mirror, "--variant=custom"),
        f"--customize-hook=cd {shlex.quote(str(made))} && {download}",
        backport.suite,
        "/dev/null",
        f"deb {_SIGNED} {request.mirror.main} {backport.suite} main",
    ]


def _mmdebstrap(mirror: sources.Mirror, variant: str) -> list[str]:
    options = ["--quiet", "--mode=root", "--format=null", "--architectures=amd64", f"--keyring={sources.KEYRING}"]
    return ["mmdebstrap", *options, variant, *(f"--aptopt={option}" for option in sources.apt_options(mirror))]
