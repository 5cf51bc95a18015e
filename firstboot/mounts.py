"""A file system that is mounted for as long as a block of code needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from config.door import run

QUIET = "nosuid,nodev,noexec"
"""Mount options (mount(8)): nothing on it is to run or to be a device."""


@contextlib.contextmanager
def mounted(device: Path, directory: Path, options: str) -> Iterator[Path]:
    """The file system on a device, at a directory that is made for it."""
    directory.mkdir(parents=True, exist_ok=True)
    run(["mount", "-o", options, device, directory])
    try:
        yield directory
    finally:
        run(["umount", directory])
