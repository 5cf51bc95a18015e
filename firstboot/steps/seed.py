"""Config and secrets: from the seed medium (a file system labelled XENPAIRSEED) to /etc/xenpair.

With them come the files that the config names by plain name, to /var/lib/xenpair/files.

This comes before the identity is known, so it is no Step of the list but what the list waits for.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from config import secrets
from config.door import copy_file, run, write_file
from config.guest import files
from config.loader import load
from firstboot import observe
from firstboot.errors import NodeError
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
    with _mounted(device) as directory:
        take(directory, places, waiting)


def take(directory: Path, places: Places, waiting: Callable[[str], None]) -> None:
    """Copy a seed that makes sense, the secrets last: with both there, it has been taken whole.

    Raises NodeError where the medium lacks something or a file cannot be copied, CopyError where one is damaged,
    ConfigError where config or secrets are none.
    """
    config, secret, keys = (directory / name for name in ("cluster.yaml", "secrets.yaml", "authorized_keys"))
    names = files(load(config).cluster)
    content = _read(secret)
    secrets.parse(content, str(secret))
    if names:
        _take_files(directory, names, places, waiting)
    if keys.exists():
        write_file(places.seed_keys, keys.read_bytes(), mode=0o600)
    write_file(places.config, config.read_bytes(), mode=0o600)
    write_file(places.secrets, content, mode=0o600)


def _take_files(directory: Path, names: Sequence[str], places: Places, waiting: Callable[[str], None]) -> None:
    """Copy what the config names; each has the sum that the medium's list gives, or nothing of the seed is taken."""
    sums = parse_sums(_read(directory / SUMS).decode(errors="replace"))
    for name in names:
        source = directory / FILES / name
        if name not in sums or not source.is_file():
            raise NodeError(f"the seed medium has no {FILES}/{name}, which the config names", hint=WHOLE)
    for name in names:
        waiting(f"copying {name} from the seed medium")
        try:
            copy_file(directory / FILES / name, places.files / name, sha256=sums[name], mode=0o600)
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


@contextlib.contextmanager
def _mounted(device: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="xenpair-seed-") as directory:
        run(["mount", "-o", "ro,nosuid,nodev,noexec", device, directory])
        try:
            yield Path(directory)
        finally:
            run(["umount", directory])
