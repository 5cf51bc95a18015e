"""Packages that the image's suite lacks or has older: rebuilt for it, as Debian's backports are, or taken as they are.

A source package comes from a newer suite, or from files of the site's own. It is built in a root file system that is
made for it and thrown away. What comes out is a layer: a small package pool, from which the root file system takes what
is newer there than in the mirror.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from config.debian import Backport, Debian
from config.debian_files import source_files
from config.door import run, sha256_of
from images import namespace, pool, sources
from images.cache import Cache, content_key
from images.errors import BuildError, MirrorError
from images.files import code
from images.jobs import REPOSITORY, explain
from images.pool import Pool
from images.progress import Progress
from images.proxies import proxy_environment

SCRIPT = REPOSITORY / "templates" / "build" / "backport"
SUFFIX = {"trixie": "~xenpair13+1"}
"""Of the version, by the suite that it is built for: lower than the version it comes from, so that an upgrade to the
newer suite replaces it (Debian's backports have ~bpo13+1)."""
_TIMEOUT = 3600.0
_SIGNED = f"[signed-by={sources.KEYRING}]"
_NOT_SOURCE = frozenset({".git", ".svn", ".hg", ".bzr"})
"""Directories in a source tree that are a version control's."""


@dataclass(frozen=True)
class Request:
    """One package that is asked for. key: of all that goes into it but what the mirror holds today."""

    backport: Backport
    target: str
    mirror: sources.Mirror
    key: str

    @classmethod
    def of(cls, backport: Backport, debian: Debian, mirror: sources.Mirror) -> Request:
        """What the rebuild of this one for the suite of the image depends on; a source's path is absolute."""
        inputs = {
            "backport": backport.model_dump(mode="json", exclude={"source"}),
            "source": fingerprint(Path(backport.source)) if backport.source else None,
            "target": debian.suite,
            "suffix": SUFFIX[debian.suite],
            "mirror": asdict(mirror),
            "script": SCRIPT.read_text(),
            "code": code(("backport.py", "pool.py", "sources.py")),
            "mmdebstrap": _mmdebstrap_version() if backport.rebuild else None,
        }
        return cls(backport, debian.suite, mirror, content_key(inputs))


@functools.cache
def _mmdebstrap_version() -> str:
    """Of the one that makes the root in which a source is built."""
    return run(["mmdebstrap", "--version"]).stdout.strip()


def fingerprint(source: Path) -> dict[str, str]:
    """Name -> what it holds, of a .dsc and its files or of a source tree."""
    if source.is_file():
        return {path.name: sha256_of(path) for path in (source, *source_files(source))}
    return {
        str(path.relative_to(source)): _content(path)
        for path in sorted(source.rglob("*"))
        if not _NOT_SOURCE.intersection(path.relative_to(source).parts) and (path.is_symlink() or path.is_file())
    }


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return sha256_of(path) + ("+x" if path.stat().st_mode & 0o100 else "")


def backport_pool(request: Request, cache: Cache, progress: Progress) -> Pool:
    """A pool of the packages, from the cache or newly made. Raises BuildError."""
    layer, backport = cache.layer("backport", request.key), request.backport
    waiting = f"another build is bringing {backport.package}; waiting for it"
    with cache.lock("backport", request.key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            what = "rebuilding" if backport.rebuild else "taking"
            with cache.scratch() as scratch, progress.stage(f"{what} {backport.package} of {backport.origin}"):
                _make(request, scratch)
                pool.seal(scratch / "pool", cache)
                cache.publish(scratch / "pool", "backport", request.key)
    origins = {name: _origin(request, version) for name, version in pool.versions(layer).items()}
    return Pool(layer, pool.public_key(cache), origins)


def _origin(request: Request, version: str) -> str:
    backport = request.backport
    if not backport.rebuild:
        return f"taken from {backport.suite}"
    return f"rebuilt from {backport.package} {version.removesuffix(SUFFIX[request.target])} of {backport.origin}"


def _make(request: Request, scratch: Path) -> None:
    made, source = scratch / "pool", scratch / "source"
    for directory in (made, source):
        directory.mkdir()
    if not request.backport.rebuild:
        _mmdebstrap(take_argv(request, made), request, scratch)
        return
    if request.backport.source is None:
        _mmdebstrap(fetch_argv(request, source), request, scratch)
    elif (given := Path(request.backport.source)).is_dir():
        shutil.copytree(given, source / "tree", symlinks=True, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
    else:
        for path in (given, *source_files(given)):
            shutil.copyfile(path, source / path.name)
    _mmdebstrap(rebuild_argv(request, source, made), request, scratch)


def _mmdebstrap(argv: list[str], request: Request, scratch: Path) -> None:
    env = {"TMPDIR": str(scratch), **proxy_environment()}
    done = run(namespace.isolated(argv), check=False, timeout=_TIMEOUT, env=env)
    if done.returncode != 0:
        raise (
            missing_source(request.backport, done.stderr)
            or failed_rebuild(request, done.stderr)
            or explain(done.stderr)
        )


def failed_rebuild(request: Request, stderr: str) -> BuildError | None:
    """The error where the package's own build, or a test of its own, failed; None where it was something else."""
    log, failed, _ = stderr.partition("dpkg-buildpackage: error: ")
    if not failed:
        return None
    tail = "\n".join(f"  {line}" for line in log.strip().splitlines()[-15:])
    return BuildError(
        f"{request.backport.package} of {request.backport.origin} cannot be rebuilt for {request.target}:\n{tail}",
        hint="where it is a test of its own that fails, `tests: false` goes without them",
    )


def missing_source(backport: Backport, stderr: str) -> BuildError | None:
    """The error where a mirror lacks what it should have of a source package; None where it was something else."""
    lost = re.findall(r"^E: Failed to fetch (\S+/pool/\S+) +404", stderr, re.MULTILINE)
    if not lost and "Unable to find a source package" not in stderr:
        return None
    what = f"the mirror lacks {', '.join(lost)}" if lost else f"{backport.suite} has no such source package"
    return MirrorError(
        f"the source of {backport.package} cannot be had: {what}",
        hint="choose another mirror (debian.mirror); or get the .dsc and every file that it names elsewhere, and "
        "give it as `source:` of this backport; or let `rebuild: false` take the package as it is",
    )


def fetch_argv(request: Request, source: Path) -> list[str]:
    """mmdebstrap(1) for no root at all: its apt fetches the newer suite's source, and has verified it."""
    get = f"source --only-source --download-only {shlex.quote(request.backport.package)}"
    return _apt_argv(request, "deb-src", get, source)


def take_argv(request: Request, made: Path) -> list[str]:
    """The same for a ready package."""
    return _apt_argv(request, "deb", f"download {shlex.quote(request.backport.package)}", made)


def _apt_argv(request: Request, kind: str, get: str, into: Path) -> list[str]:
    suite, apt = request.backport.suite, 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --quiet'
    return [
        *_options(request.mirror, "--variant=custom"),
        f"--customize-hook=cd {shlex.quote(str(into))} && {apt} {get} >&2",
        suite,
        "/dev/null",
        f"{kind} {_SIGNED} {request.mirror.main} {suite} main",
    ]


def rebuild_argv(request: Request, source: Path, made: Path) -> list[str]:
    """mmdebstrap(1) for a build root of the image's suite, of which only the packages stay, in made."""
    backport, mirror = request.backport, request.mirror
    words = (backport.package, request.target, SUFFIX[request.target], "yes" if backport.tests else "no")
    return [
        *_options(mirror, "--variant=buildd"),
        f"--customize-hook=upload {shlex.quote(str(SCRIPT))} /backport-script",
        '--customize-hook=mkdir "$1/build"',
        f"--customize-hook=sync-in {shlex.quote(str(source))} /build",
        f'--customize-hook=chroot "$1" sh /backport-script {shlex.join(words)} >&2',
        f"--customize-hook=sync-out /backport {shlex.quote(str(made))}",
        request.target,
        "/dev/null",
        f"deb {_SIGNED} {mirror.main} {request.target} main",
        f"deb {_SIGNED} {mirror.security} {request.target}-security main",
    ]


def _options(mirror: sources.Mirror, variant: str) -> list[str]:
    options = ["--quiet", "--mode=root", "--format=null", "--architectures=amd64", f"--keyring={sources.KEYRING}"]
    return ["mmdebstrap", *options, variant, *(f"--aptopt={option}" for option in sources.apt_options(mirror))]
