"""The install medium's device, and loop devices for as long as a block of code needs them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from config.door import run
from config.errors import CommandError

BY_LABEL = Path("/dev/disk/by-label")
SOON = 5.0
"""Seconds in which a medium that is plugged in shows up, mostly: only then is anything said."""


def await_medium(label: str, waiting: Callable[[str], None]) -> Path:
    """The device whose file system has that label; a stick may need its time, or be plugged in by somebody."""
    device = BY_LABEL / label
    begun = time.monotonic()
    while not device.exists():
        if time.monotonic() - begun > SOON:
            waiting(f"no medium labelled {label} has shown up yet; plug it in, or into another port")
        time.sleep(0.1)
    return device


@contextlib.contextmanager
def looped(file: Path, *, offset: int = 0, size: int = 0, read_only: bool = False) -> Iterator[Path]:
    """A file or a disk from that byte on, to its end or so many bytes, as a block device."""
    # In an initramfs nothing has loaded it yet; where it is part of the kernel there is nothing to load.
    with contextlib.suppress(CommandError):
        run(["modprobe", "loop"])
    options = ["--read-only"] if read_only else []
    options += ["--sizelimit", str(size)] if size else []
    device = Path(run(["losetup", "--find", "--show", "--offset", str(offset), *options, file]).stdout.strip())
    try:
        yield device
    finally:
        run(["losetup", "--detach", device])
