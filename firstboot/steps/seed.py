"""Config and secrets: from the seed medium (a file system labelled XENPAIRSEED) to /etc/xenpair.

This comes before the identity is known, so it is no Step of the list but what the list waits for.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from config import secrets
from config.door import run, write_file
from config.loader import load
from firstboot import observe
from firstboot.errors import NodeError
from firstboot.places import Places

SEED_LABEL = "XENPAIRSEED"
"""Volume label of the seed medium; images.seed writes it."""


def obtain(places: Places, waiting: Callable[[str], None]) -> None:
    """Return once config and secrets are on this node's own disk; waits for the medium as long as that takes.

    A medium that is there counts more than what an earlier attempt has kept of one: so a config that stopped first boot
    is mended on the medium. Raises ConfigError where the medium holds a config or secrets that are none.
    """
    device = places.at("dev/disk/by-label") / SEED_LABEL
    if places.config.exists() and places.secrets.exists():
        observe.settle(waiting)
        if not device.exists():
            return
    while not device.exists():
        waiting(f"no config yet: plug in the medium labelled {SEED_LABEL}")
        time.sleep(1)
    with _mounted(device) as directory:
        take(directory, places)


def take(directory: Path, places: Places) -> None:
    """Copy a seed that makes sense, the secrets last: with both there, it has been taken whole."""
    config, secret, keys = (directory / name for name in ("cluster.yaml", "secrets.yaml", "authorized_keys"))
    load(config)
    try:
        content = secret.read_bytes()
    except OSError as e:
        raise NodeError(
            f"the seed medium has no {secret.name} that can be read: {e.strerror}",
            hint="`invoke build-image` writes a whole one, as seed.img",
        ) from e
    secrets.parse(content, str(secret))
    if keys.exists():
        write_file(places.seed_keys, keys.read_bytes(), mode=0o600)
    write_file(places.config, config.read_bytes(), mode=0o600)
    write_file(places.secrets, content, mode=0o600)


@contextlib.contextmanager
def _mounted(device: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xenpair-seed-") as directory:
        run(["mount", "-o", "ro,nosuid,nodev,noexec", device, directory])
        try:
            yield Path(directory)
        finally:
            run(["umount", directory])
