"""The package xenpair-firstboot on this node: the one that is installed, kept for going back, and the one that comes.

A package brings its own way to be upgraded to: `xenpair upgrade` unpacks it, and the code in it does the rest.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from config.door import run
from config.errors import CommandError
from config.upgrade import PACKAGE
from firstboot.errors import UpgradeError
from firstboot.places import Places

LIMIT = 600.0
"""Seconds for dpkg: a few on hardware, a minute on a busy lab."""
CODE = "usr/lib/xenpair"
"""Where its code lies in it."""


def installed() -> str:
    """Version of the one that is installed, with its state where that is not the whole of it."""
    found = run(["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", PACKAGE]).stdout.strip()
    state, _, version = found.partition(" ")
    return version if state == "installed" else f"{version} ({state})"


def version_of(package: Path) -> str:
    """Raises UpgradeError for what is no package of xenpair's."""
    try:
        name, version = run(["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", package]).stdout.split()
    except (CommandError, ValueError) as e:
        reason = e.stderr.strip() if isinstance(e, CommandError) else "it has no name or no version"
        raise UpgradeError(f"{package} is no Debian package: {reason}", hint="`invoke build-image` makes one") from e
    if name != PACKAGE:
        raise UpgradeError(f"{package} holds {name}, and not {PACKAGE}")
    return version


def hand_over(package: Path, places: Places, words: Sequence[str]) -> NoReturn:
    """Unpack the package, and have its own code carry out `xenpair upgrade` in this process's place."""
    version_of(package)
    unpacked = places.unpacked
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "--extract", package, unpacked])
    sys.stdout.flush()
    # -P: whatever lies in the working directory is no part of it.
    argv = ["/usr/bin/python3", "-P", "-m", "firstboot.command", "upgrade", *words]
    os.execve(argv[0], argv, {**os.environ, "PYTHONPATH": str(unpacked / CODE)})  # noqa: S606 -- an argv list


def is_running(places: Places) -> bool:
    """Whether this code is that of an unpacked package already."""
    return Path(__file__).is_relative_to(places.unpacked)


def missing(package: Path) -> str:
    """What else the package wants installed, or empty."""
    argv = ["apt-get", "--simulate", "--no-download", "--allow-downgrades", "install", str(package)]
    done = run(argv, check=False, env={"DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode != 0:
        return " ".join((done.stderr or done.stdout).split())
    others = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst ")]
    return " ".join(name for name in others if name != PACKAGE)


def install(package: Path) -> None:
    """Install it whatever its version. Raises CommandError."""
    run(["dpkg", "--install", package], timeout=LIMIT, env={"DEBIAN_FRONTEND": "noninteractive"})


def keep(package: Path) -> None:
    """Pack what is installed into that file, as dpkg-repack(1) does: nobody keeps the package that it came from."""
    tree = package.parent / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    control = tree / "DEBIAN"
    control.mkdir(parents=True)
    for listed in run(["dpkg-query", "--listfiles", PACKAGE]).stdout.splitlines():
        source = Path(listed)
        # Documentation may have been left out when it was installed (path-exclude in dpkg.cfg.d).
        if source.is_file():
            target = tree / listed.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for kind in run(["dpkg-query", "--control-list", PACKAGE]).stdout.split():
        shutil.copy2(run(["dpkg-query", "--control-path", PACKAGE, kind]).stdout.strip(), control / kind)
    fields = run(["dpkg-query", "--status", PACKAGE]).stdout.splitlines(keepends=True)
    (control / "control").write_text("".join(line for line in fields if not line.startswith("Status:")))
    new = package.with_suffix(".new")
    run(["dpkg-deb", "--root-owner-group", "--build", tree, new])
    new.rename(package)
    shutil.rmtree(tree)
