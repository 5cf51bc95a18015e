"""The seed medium: a FAT image by which a node gets its cluster's config and secrets, and the files that it names.

The disk image itself holds none of them, so one image serves both nodes and any number of clusters.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from config.carried import beside, require_files
from config.door import run, sha256_of
from config.guest import files
from config.loader import load
from images.files import EPOCH

SEED = "seed.img"
LABEL = "XENPAIRSEED"
"""Volume label by which first boot finds it."""
FILES = "files"
"""Directory of the files that the config names by plain name."""
SUMS = "files.sha256"
"""Their sums, as sha256sum writes them: first boot finds a damaged file by it, and the next build a changed one."""

SIZE = 2 << 20
"""Bytes of a medium without files. Which FAT fits a size is left to mkfs.vfat."""
CLUSTER = 32 << 10
"""Bytes: the largest cluster of a FAT, to which a file is rounded up."""
FAT_SHARE = 64
"""The two tables take less than one part in this many: twice 4 bytes a cluster, of 2 KiB or more (mkfs.fat 4.2)."""
SLOWEST = 4 << 20
"""Bytes a second at which a medium may be written before that counts as a hang."""

TEMPORARY_PREFIX = ".seed-"


def write_seed(config_file: Path, secrets_yaml: str, out: Path, *, authorized_keys: str = "") -> bool:
    """Write the seed medium, mode 0600: cluster.yaml, secrets.yaml, authorized_keys (public keys, one a line), files/.

    Replaces out in one step; False, and nothing touched, where it already says the same: large files are compared by
    their sums. Secrets are never part of an argv. Raises ConfigError for a config that is wrong or names a file that
    does not lie beside it, CommandError without mkfs.vfat or mcopy.
    """
    loaded = load(config_file)
    require_files(loaded)
    carried = {name: beside(config_file.resolve(), name) for name in files(loaded.cluster)}
    contents = {
        "cluster.yaml": config_file.read_bytes(),
        "secrets.yaml": secrets_yaml.encode(),
        "authorized_keys": authorized_keys.encode(),
    }
    if carried:
        contents[SUMS] = "".join(f"{sha256_of(file)}  {FILES}/{name}\n" for name, file in carried.items()).encode()
    if out.is_file() and out.stat().st_mode & 0o777 == 0o600 and read_seed(out) == contents:
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    # A directory of mkdtemp is 0700.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=TEMPORARY_PREFIX) as directory:
        image = Path(directory) / "image"
        _make(image, contents, carried)
        image.rename(out)
    return True


def read_seed(image: Path) -> dict[str, bytes]:
    """File name -> content of a seed medium, without what is in files/; empty where it is none."""
    contents = {}
    with tempfile.TemporaryDirectory(prefix="xenpair-seed-") as directory:
        done = run(["mcopy", "-n", "-i", image, "::*", directory], check=False)
        if done.returncode == 0:
            contents = {path.name: path.read_bytes() for path in Path(directory).iterdir()}
    return contents


def medium_size(sizes: list[int]) -> int:
    """Bytes of a medium that holds files of these sizes beside the config."""
    room = sum(-(-size // CLUSTER) * CLUSTER for size in sizes)
    return SIZE + -(-(room + room // FAT_SHARE) // SIZE) * SIZE


def _make(image: Path, contents: Mapping[str, bytes], carried: Mapping[str, Path]) -> None:
    sizes = [file.stat().st_size for file in carried.values()]
    image.touch(mode=0o600)
    os.truncate(image, medium_size(sizes))
    # So that the same config and secrets give the same medium. FAT has local times.
    env = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"}
    run(["mkfs.vfat", "--invariant", "-n", LABEL, image])
    for name, content in contents.items():
        file = image.with_name(name)
        file.write_bytes(content)
        run(["mcopy", "-i", image, file, f"::{name}"], env=env)
    if carried:
        run(["mmd", "-i", image, f"::{FILES}"], env=env)
        limit = 60 + sum(sizes) / SLOWEST
        run(["mcopy", "-i", image, *carried.values(), f"::{FILES}/"], env=env, timeout=limit)
