"""A formed pair for a measurement, from an image that is built if it is not there, in a directory that goes with it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from config.loader import load
from images.build import build_image
from images.progress import Progress
from lab.errors import LabError
from lab.pair import Lab


@contextmanager
def formed(config: Path, cache: Path, out: Path, write_config: Callable[[Path, Path], Path]) -> Iterator[Lab]:
    """write_config: makes of a config, in a directory, the one that the pair has. Raises BuildError, LabError."""
    build_image(load(config), out, ["qcow2"], cache=cache, progress=Progress())
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="bench-"))
    try:
        own = write_config(config, scratch / "config")
        with Lab.prepare(scratch / "pair", own, out / "xenpair.qcow2", secrets_dir=config.parent / "secrets") as lab:
            lab.up()
            yield lab
    finally:
        shutil.rmtree(scratch)


def wait(happened: Callable[[], bool], limit: float, otherwise: str) -> None:
    """Until it has happened. Raises LabError, saying otherwise, after limit seconds."""
    deadline = time.monotonic() + limit
    while not happened():
        if time.monotonic() > deadline:
            raise LabError(f"{otherwise} within {limit:.0f} s")
        time.sleep(1)


def succeeds(lab: Lab, node: str, command: str) -> bool:
    """Whether a shell command does so on a node."""
    return lab.ssh(node, command, check=False).returncode == 0
