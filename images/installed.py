"""The second layer: what the installation of our package changes in the root file system, to be done to its disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config.door import write_file
from images.cache import Cache, content_key
from images.deb import Package, firstboot_package
from images.files import code
from images.jobs import CHANGES, InstalledJob, run_inside
from images.progress import Progress
from images.rootfs import Rootfs

_CODE = ("delta.py", "dpkg.py", "inside.py", "installed.py", "makeinstalled.py", "tree.py")
_FACTS = "layer.json"
_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Installed:
    """The finished layer: where it stands, and the versions of all packages then."""

    path: Path
    packages: dict[str, str]

    def requests(self) -> list[str]:
        """For debugfs, to be carried out in the layer's directory."""
        return (self.path / CHANGES).read_text().splitlines()


@dataclass(frozen=True)
class Request:
    """What is installed upon which root file system, for which later files there is room, and the key of all that."""

    package: Package
    room: tuple[str, ...]
    key: str

    @classmethod
    def of(cls, rootfs_key: str, package: Package, room: Iterable[str]) -> Request:
        """room: names of the files to come."""
        names = tuple(sorted(room))
        inputs = {"rootfs": rootfs_key, "package": package.version, "room": names, "code": code(_CODE)}
        return cls(package, names, content_key(inputs))


def installed_layer(request: Request, base: Rootfs, cache: Cache, progress: Progress) -> Installed:
    """The layer from the cache, or newly made. Raises BuildError."""
    layer = cache.layer("installed", request.key)
    with cache.lock("installed", request.key, waiting=lambda: progress.note("another build installs the same package")):
        if not layer.is_dir():
            with progress.stage("installing our package"), cache.scratch() as scratch:
                made = scratch / "layer"
                made.mkdir()
                deb = firstboot_package(request.package, cache)
                tree = str(scratch / "tree")
                job = InstalledJob(tree, str(base.tar), str(deb), str(made), request.room, base.date)
                result = run_inside(job, timeout=_TIMEOUT)
                write_file(made / _FACTS, json.dumps({"packages": result.packages}, indent=1))
                cache.publish(made, "installed", request.key)
    return Installed(layer, json.loads((layer / _FACTS).read_text())["packages"])
