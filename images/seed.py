"""The seed medium: a small FAT image by which a node gets its cluster's config and secrets.

The disk image itself holds neither, so one image serves both nodes and any number of clusters.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from config.door import run

LABEL = "XENPAIRSEED"
"""Volume label by which first boot finds it."""

SIZE = 2 << 20
"""Bytes."""

TEMPORARY_PREFIX = ".seed-"


def write_seed(config_file: Path, secrets_yaml: str, out: Path, *, authorized_keys: str = "") -> bool:
    """Write the seed medium, mode 0600: cluster.yaml, secrets.yaml and authorized_keys (public keys, one a line).

    Replaces out in one step; False, and nothing touched, where it already says the same. Secrets are never part of an
    argv. Raises CommandError without mkfs.vfat or mcopy.
    """
    contents = {
        "cluster.yaml": config_file.read_bytes(),
        "secrets.yaml": secrets_yaml.encode(),
        "authorized_keys": authorized_keys.encode(),
    }
    if out.is_file() and out.stat().st_mode & 0o777 == 0o600 and read_seed(out) == contents:
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    # A directory of mkdtemp is 0700.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=TEMPORARY_PREFIX) as directory:
        image = Path(directory) / "image"
        image.touch(mode=0o600)
        os.truncate(image, SIZE)
        run(["mkfs.vfat", "-F", "12", "-n", LABEL, image])
        for name, content in contents.items():
            file = Path(directory) / name
            file.write_bytes(content)
            run(["mcopy", "-i", image, file, f"::{name}"])
        image.rename(out)
    return True


def read_seed(image: Path) -> dict[str, bytes]:
    """File name -> content of a seed medium; empty where it is none."""
    contents = {}
    with tempfile.TemporaryDirectory(prefix="xenpair-seed-") as directory:
        done = run(["mcopy", "-n", "-i", image, "::*", directory], check=False)
        if done.returncode == 0:
            contents = {path.name: path.read_bytes() for path in Path(directory).iterdir()}
    return contents
