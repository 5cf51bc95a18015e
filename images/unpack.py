"""Inside the namespace: packages into a tree, by its own dpkg and in the order of any installation, but quickly.

Decompressing is most of the work of unpacking, and dpkg does it on one core. Here the other cores do it ahead of dpkg,
which then finds packages that are not compressed. All that dpkg records, it has seen itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from config.door import run
from images import debfile
from images.dependencies import Package, closure
from images.tree import Tree

ROOM = "mnt/debs"
"""Where the tree has the packages while they are unpacked."""


_BATCH = 48
"""Packages a call of dpkg, which reads its whole data base at each start."""
_FILTERED = ("doc", "info", "locale", "man")
"""Below usr/share: what dpkg's path-exclude (packages.DPKG_OPTIONS) keeps out, or most of it."""


class Packages:
    """The packages of a tree. Decompressing begins at once; room is a directory for what comes out."""

    def __init__(self, debs: Iterable[Path], room: Path) -> None:
        self._room = room
        self._paths = {Package.parse(debfile.control(deb)): deb for deb in debs}
        first = closure((package.name for package in self._paths if package.essential), self._paths)
        ordered = sorted(self._paths, key=lambda package: package.name)
        self.essential = [package for package in ordered if package.name in first]
        self.others = [package for package in ordered if package.name not in first]
        self._pool = ThreadPoolExecutor(os.cpu_count())
        # One of the others, the kernel, takes as long as half of the rest: begun early, it is there when it is wanted.
        largest = sorted(self.others, key=lambda package: self._paths[package].stat().st_size)[-1:]
        self._ready = {
            package: self._pool.submit(self._decompress, package)
            for package in dict.fromkeys((*self.essential, *largest, *self.others))
        }

    def __enter__(self) -> Packages:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _decompress(self, package: Package) -> Path:
        target = self._room / f"{package.name}.deb"
        debfile.unpacked(self._paths[package], target)
        return target

    def extract_essential(self, tree: Path) -> None:
        """What dpkg itself needs to run in the tree, from the packages that it will then unpack there."""
        for package in self.essential:
            run(["dpkg-deb", "--extract", self._ready[package].result(), tree])
        for name in _FILTERED:
            shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)

    def unpack(self, packages: Sequence[Package], tree: Tree) -> None:
        """Have them unpacked by the tree's dpkg, in their order; the decompressed ones go as they are used."""
        for at in range(0, len(packages), _BATCH):
            batch = [self._ready[package].result() for package in packages[at : at + _BATCH]]
            # The essential packages depend on each other in circles; apt has chosen packages that fit together.
            tree.dpkg("--force-depends", "--unpack", *(f"/{ROOM}/{path.name}" for path in batch))
            for path in batch:
                path.unlink()
