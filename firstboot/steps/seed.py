"""Config and secrets: from the seed medium (a file system labelled XENPAIRSEED) to /etc/xenpair.

With them come the files that the config names by plain name, to /var/lib/xenpair/files.

This comes before the identity is known, so it is no Step of the list but what the list waits for.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config import secrets
from config.door import copy_file, write_file
from config.guest import files
from config.loader import load
from config.model import Cluster
from firstboot import observe
from firstboot.errors import NodeError
from firstboot.mounts import QUIET, mounted
from firstboot.places import Places

SEED_LABEL = "XENPAIRSEED"
"""Volume label of the seed medium; images.seed writes it."""
FILES, SUMS = "files", "files.sha256"
"""Directory on it for what the config names, and the list of its sums."""
WHOLE = "`invoke build-image` writes a whole one, as seed.img"


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
    with (
        tempfile.TemporaryDirectory(prefix="xenpair-seed-") as directory,
        mounted(device, Path(directory), f"ro,{QUIET}") as medium,
    ):
        take(medium, places, waiting)


@dataclass(frozen=True)
class Seed:
    """What makes a node of a cluster. keys: further keys that may log in as root; sums: sha256 (hex) by file name."""

    cluster: Cluster
    config: bytes
    secrets: bytes = field(repr=False)
    keys: bytes | None
    sums: Mapping[str, str]

    def keep(self, places: Places) -> None:
        """Write it down for root alone, the secrets last: with both there, it has been taken whole."""
        if self.keys is not None:
            write_file(places.seed_keys, self.keys, mode=0o600)
        write_file(places.config, self.config, mode=0o600)
        write_file(places.secrets, self.secrets, mode=0o600)


def take(directory: Path, places: Places, waiting: Callable[[str], None]) -> None:
    """Copy a seed that makes sense. Raises what examine() does; NodeError or CopyError for a file of it."""
    seed = examine(directory)
    _take_files(directory, seed.sums, places, waiting)
    seed.keep(places)


def examine(directory: Path) -> Seed:
    """What is on a mounted medium; the files on it are there, and are not read yet.

    Raises NodeError where the medium lacks something, ConfigError where config or secrets are none.
    """
    config, secret, keys = (directory / name for name in ("cluster.yaml", "secrets.yaml", "authorized_keys"))
    cluster = load(config).cluster
    content = _read(secret)
    secrets.parse(content, str(secret))
    return Seed(
        cluster,
        config.read_bytes(),
        content,
        keys.read_bytes() if keys.exists() else None,
        _sums(directory, files(cluster)),
    )


def _sums(directory: Path, names: Sequence[str]) -> dict[str, str]:
    """What each file that the config names has to have, by the medium's list."""
    if not names:
        return {}
    sums = parse_sums(_read(directory / SUMS).decode(errors="replace"))
    for name in names:
        if name not in sums or not (directory / FILES / name).is_file():
            raise NodeError(f"the seed medium has no {FILES}/{name}, which the config names", hint=WHOLE)
    return {name: sums[name] for name in names}


def _take_files(directory: Path, sums: Mapping[str, str], places: Places, waiting: Callable[[str], None]) -> None:
    """Copy what the config names; each has its sum, or nothing of the seed is taken."""
    for name, total in sums.items():
        waiting(f"copying {name} from the seed medium")
        try:
            copy_file(directory / FILES / name, places.files / name, sha256=total, mode=0o600)
        except OSError as e:
            raise NodeError(
                f"{name} cannot be copied from the seed medium to {places.files}: {e.strerror}",
                hint="make room on the system disk, or mend the medium; then `xenpair resume`",
            ) from e


def parse_sums(text: str) -> dict[str, str]:
    """File name -> sha256 (hex) from the medium's list, in which sha256sum would find the files."""
    found = re.findall(rf"^([0-9a-f]{{64}})  {FILES}/([^/\n]+)$", text, re.MULTILINE)
    return {name: total for total, name in found}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise NodeError(f"the seed medium has no {file.name} that can be read: {e.strerror}", hint=WHOLE) from e
