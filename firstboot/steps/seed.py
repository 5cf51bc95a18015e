"""Config and secrets: from the seed medium (a file system labelled XENPAIRSEED) to /etc/xenpair.

This comes before the identity is known, so it is no Step of the list but what the list waits for.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from config.door import run, write_file
from firstboot.places import Places

SEED_LABEL = "XENPAIRSEED"
"""Volume label of the seed medium; images.seed writes it."""


def obtain(places: Places, waiting: Callable[[str], None]) -> None:
    """Return once config and secrets are on this node's own disk; waits for the medium as long as that takes."""
    while not (places.config.exists() and places.secrets.exists()):
        device = places.at("dev/disk/by-label") / SEED_LABEL
        if not device.exists():
            waiting(f"no config yet: plug in the medium labelled {SEED_LABEL}")
            time.sleep(1)
            continue
        with _mounted(device) as directory:
            keys = directory / "authorized_keys"
            if keys.exists():
                write_file(places.seed_keys, keys.read_bytes(), mode=0o600)
            write_file(places.config, (directory / "cluster.yaml").read_bytes(), mode=0o600)
            # Last: with both there, the seed has been taken whole.
            write_file(places.secrets, (directory / "secrets.yaml").read_bytes(), mode=0o600)


@contextlib.contextmanager
def _mounted(device: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xenpair-seed-") as directory:
        run(["mount", "-o", "ro,nosuid,nodev,noexec", device, directory])
        try:
            yield Path(directory)
        finally:
            run(["umount", directory])
