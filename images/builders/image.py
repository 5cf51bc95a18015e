"""The image of the builder's container: a Debian with all that a build needs, made anew when one of these changes."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from config.door import run
from config.errors import CommandError
from images import namespace, preflight, sources
from images.builders.engine import Container, Engine, Rights
from images.builders.host import INSIDE, SUITES, Apt, shown, written
from images.builders.lockfile import needed
from images.cache import Cache, content_key
from images.errors import BuildError
from images.jobs import REPOSITORY
from images.progress import Progress
from images.proxies import proxy_environment

SCRIPT = REPOSITORY / "templates/build/builder"
FILES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP", "SETGID", "SETUID", "SYS_CHROOT")
"""Capabilities of whoever installs packages: files of all owners and modes, device nodes, and programs in the tree. All
of them are among those that Docker gives to any container."""
INSTALLS = Rights(FILES, mounts=False)
_MANYLINUX = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""Wheels that run on Debian bookworm's glibc 2.36 and everything later (PEP 600)."""
_TIMEOUT = 1800.0
_LAST_LINES = 20


@dataclass(frozen=True)
class Recipe:
    """What goes into the image, and its name, which changes with any of it."""

    suite: str
    apt: Apt
    packages: tuple[str, ...]
    requirements: str

    @classmethod
    def of(cls, suite: str, apt: Apt) -> Recipe:
        """For builds of this very source tree."""
        lock, project = ((REPOSITORY / name).read_text() for name in ("requirements.lock", "pyproject.toml"))
        return cls(suite, apt, preflight.packages(), needed(lock, project))

    @property
    def key(self) -> str:
        """Content key."""
        mirror = asdict(self.apt.mirror) if self.apt.mirror else None
        inputs = {"packages": self.packages, "requirements": self.requirements, "mirror": mirror}
        return content_key({"suite": self.suite, "script": SCRIPT.read_text(), **inputs})

    @property
    def name(self) -> str:
        """As the engine knows it."""
        return f"xenpair-builder:{self.suite}-{self.key[:16]}"


def builder_image(engine: Engine, recipe: Recipe, cache: Cache, progress: Progress) -> str:
    """The name of the image, which the engine has then. Raises BuildError."""
    waiting = "another build is making the builder's image; waiting for it"
    with cache.lock("builder", recipe.key, waiting=lambda: progress.note(waiting)):
        if not engine.has_image(recipe.name):
            base = _base(engine, recipe, progress)
            with tempfile.TemporaryDirectory(prefix="xenpair-builder-") as scratch:
                _make(engine, recipe, base, Path(scratch), progress)
    return recipe.name


def _base(engine: Engine, recipe: Recipe, progress: Progress) -> str:
    """A plain Debian: one that the engine has, else the registry's, else one that is made here."""
    debian, own = f"debian:{recipe.suite}-slim", f"xenpair-base:{recipe.suite}"
    for name in (debian, own):
        if engine.has_image(name):
            return name
    with progress.stage(f"fetching {debian} from its registry"):
        refused = engine.pull(debian)
    if not refused:
        return debian
    progress.note(f"the registry does not give {debian}: {refused}")
    with progress.stage(f"making a Debian {recipe.suite} with mmdebstrap instead"):
        _bootstrap(engine, recipe, own, refused)
    return own


def _bootstrap(engine: Engine, recipe: Recipe, name: str, refused: str) -> None:
    if shutil.which("mmdebstrap") is None or recipe.apt.mirror is None:
        raise BuildError(
            f"the builder's image cannot be had: the registry does not give debian:{recipe.suite}-slim ({refused}), "
            "and this host cannot make one: it has no mmdebstrap, or its apt no Debian mirror",
            hint=f"`docker pull debian:{recipe.suite}-slim` where that works, or `docker load` an image of that name",
        )
    with tempfile.TemporaryDirectory(prefix="xenpair-base-") as scratch:
        tar = Path(scratch) / "base.tar"
        options = written(Path(scratch) / "apt.conf", "\n".join(recipe.apt.options) + "\n")
        try:
            run(
                namespace.isolated(bootstrap_argv(recipe, options, tar)),
                timeout=_TIMEOUT,
                env=proxy_environment(),
            )
        except CommandError as e:
            raise BuildError(f"the builder's image cannot be had: {refused}; and {e.message}") from e
        engine.import_image(tar, name)


def bootstrap_argv(recipe: Recipe, options: Path, tar: Path) -> list[str]:
    """mmdebstrap(1) for a plain Debian that keeps nothing of how this host reaches its mirror."""
    forgotten = ("etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap")
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--architectures=amd64",
        f"--keyring={sources.KEYRING}",
        f"--aptopt={options}",
        "--customize-hook=rm -f " + " ".join(f'"$1"/{shlex.quote(name)}' for name in forgotten),
        recipe.suite,
        str(tar),
        *(line for source in recipe.apt.sources_for(recipe.suite) for line in source.one_line()),
    ]


def _make(engine: Engine, recipe: Recipe, base: str, scratch: Path, progress: Progress) -> None:
    with progress.stage("fetching the Python packages of the builder"):
        _fetch_wheels(recipe, scratch)
    container = Container(
        image=base,
        command=["sh", f"{INSIDE}/builder", *recipe.packages],
        mounts=[
            *recipe.apt.mounts(recipe.suite, scratch),
            *(shown(scratch / name, f"{INSIDE}/{name}") for name in ("requirements", "wheels")),
            shown(SCRIPT, f"{INSIDE}/builder"),
        ],
        rights=INSTALLS,
        environment={},
    )
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with progress.stage(f"installing what builds into {recipe.name}"), engine.container(container) as identifier:
        code = engine.run(identifier, lambda line: last.append(line.text))
        if code:
            tail = "\n".join(f"  {line}" for line in last)
            raise BuildError(f"the builder's image cannot be made (exit code {code})\n{tail}")
        engine.commit(identifier, recipe.name)


def _fetch_wheels(recipe: Recipe, scratch: Path) -> None:
    """By the pip of this host, whose settings for index, proxy and certificates hold; each by its hash."""
    requirements, wheels = written(scratch / "requirements", recipe.requirements), scratch / "wheels"
    wheels.mkdir()
    run(_pip_argv(recipe.suite, requirements, wheels), timeout=_TIMEOUT, env=os.environ)


def _pip_argv(suite: str, requirements: Path, wheels: Path) -> Sequence[str | Path]:
    fitting = ["--only-binary=:all:", "--python-version", SUITES[suite], *(f"--platform={name}" for name in _MANYLINUX)]
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *fitting]
    return [*download, "--requirement", requirements, "--dest", wheels]
