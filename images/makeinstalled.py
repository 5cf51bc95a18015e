"""Inside the namespace: our package installed upon the first layer's tree, and what changed by that kept."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from images import delta
from images.jobs import CHANGES, FILES, InstalledJob, Result
from images.tree import Tree

_ASIDE = ("usr/lib/firmware", "usr/lib/modules")
"""A third of the tree, which nothing here looks at."""


def make_installed(job: InstalledJob) -> Result:
    """Into the layer: the files that are new or others, and requests that bring all changes into a filled disk."""
    tree, layer = Tree(Path(job.tree), job.date), Path(job.layer)
    tree.path.mkdir()
    tree.keep_in_memory()
    tree.unpack(Path(job.tar), without=_ASIDE)
    before = delta.snapshot(tree.path)
    with tree.mounted():
        shutil.copy2(job.deb, tree.path / "mnt" / Path(job.deb).name)
        tree.dpkg("--install", f"/mnt/{Path(job.deb).name}")
    _make_room(tree, job.room)
    tree.clean()
    _mark_updated(tree)
    after = delta.snapshot(tree.path)
    requests = delta.requests(before, after, tree.path, FILES, job.date)
    (layer / CHANGES).write_text("".join(f"{request}\n" for request in requests))
    _keep(delta.changed(before, after), tree.path, layer / FILES)
    return tree.result()


def _make_room(tree: Tree, names: Iterable[str]) -> None:
    """An empty file for each that will come, where there is none yet: so each replaces one then."""
    for name in names:
        path = tree.path / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def _mark_updated(tree: Tree) -> None:
    """Tell systemd that /etc and /var are as new as /usr, or it rebuilds caches for half a minute at first boot.

    See ConditionNeedsUpdate= in systemd.unit(5). /usr itself is no newer than the tree's date, as all of the image.
    """
    for name in ("etc/.updated", "var/.updated"):
        (tree.path / name).write_text(f"TIMESTAMP_NSEC={tree.date * 10**9}\n")
        os.utime(tree.path / name, (tree.date, tree.date))


def _keep(changed: Mapping[str, delta.Node], tree: Path, files: Path) -> None:
    """Contents alone: the requests tell the rest."""
    files.mkdir()
    for path, node in changed.items():
        if stat.S_ISREG(node.mode):
            (files / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / path, files / path)
