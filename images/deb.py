"""xenpair-firstboot: a real Debian package of config/, firstboot/ and templates/, built without debhelper.

Its version is the project's, then the time of the last commit that touched what it carries, then a hash of that:
0.1.0+20260102030405.1a2b3c4d. So what was committed later sorts later, and an upgrade by apt takes it. Two uncommitted
states on one commit sort by chance; without git (a release tarball) the project's own version has to rise.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.door import run
from config.errors import CommandError
from images.cache import Cache, content_key
from images.files import EPOCH, File, code, fingerprints, read_tree, render, write_tree
from images.jobs import REPOSITORY

NAME = "xenpair-firstboot"
PRIVATE = "usr/lib/xenpair"
UNITS = "usr/lib/systemd/system"
STONITH = "usr/lib/stonith/plugins/external"
GUARDED = (
    *("lvcreate", "lvremove", "lvextend", "lvresize", "lvreduce", "lvrename", "lvconvert"),
    *("vgextend", "vgreduce", "vgremove", "vgrename", "vgsplit", "vgmerge"),
)
"""Commands of LVM that change what both nodes share: in the PATH before each of them stands templates/guard/lvm."""

_CARRIED = ("config", "firstboot", "templates")
_COPYRIGHT = f"{NAME} is part of xenpair.\n".encode()


@dataclass(frozen=True)
class Package:
    """The package as it would be built now: version, files by their path on the node, control templates."""

    version: str
    files: Mapping[str, File]
    control: Mapping[str, File]
    epoch: int

    @classmethod
    def read(cls, repository: Path = REPOSITORY) -> Package:
        """From the sources as they are at this moment."""
        files, control = payload(repository), read_tree(repository / "templates/deb")
        inputs = {"files": fingerprints(files), "control": fingerprints(control), "code": code(["deb.py", "files.py"])}
        project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
        committed = commit_time(repository)
        stamp = datetime.fromtimestamp(committed, UTC).strftime("%Y%m%d%H%M%S") + "." if committed else ""
        return cls(f"{project}+{stamp}{content_key(inputs)[:8]}", files, control, committed or EPOCH)

    @property
    def file_name(self) -> str:
        """As dpkg-name(1) would have it."""
        return f"{NAME}_{self.version}_all.deb"


def payload(repository: Path) -> dict[str, File]:
    """Path on the node -> file, for everything that the package carries."""
    templates = read_tree(repository / "templates")
    found = {"usr/bin/xenpair": templates["deb/xenpair"], f"{PRIVATE}/mirror-event": templates["deb/mirror-event"]}
    for package in ("config", "firstboot"):
        modules = read_tree(repository / package).items()
        found |= {f"{PRIVATE}/{package}/{name}": file for name, file in modules if name.endswith(".py")}
    for name, file in templates.items():
        top, _, below = name.partition("/")
        if top in ("units", "dropins"):
            found[f"{UNITS}/{below}"] = file
        elif top == "stonith":
            found[f"{STONITH}/{below}"] = file
        elif top == "guard":
            found |= {f"usr/local/sbin/{command}": file for command in GUARDED}
        elif top not in ("image", "build", "deb", "installer", "preseed"):
            found[f"{PRIVATE}/templates/{name}"] = file
    return dict(sorted(found.items()))


def enabled_units(files: Mapping[str, File]) -> list[str]:
    """Units of the package that say themselves where they want to be enabled."""
    units = {Path(name).name: file for name, file in files.items() if re.fullmatch(rf"{UNITS}/[^/]+", name)}
    return [name for name, file in units.items() if b"[Install]" in file.data]


def commit_time(repository: Path) -> int:
    """Seconds since the epoch of the last commit that touched what the package carries; 0 where git does not tell.

    SOURCE_DATE_EPOCH comes first, for a build where git is not (reproducible-builds.org, specification).
    """
    if (date := os.environ.get("SOURCE_DATE_EPOCH", "")).isdigit():
        return int(date)
    argv = ["git", "-c", "safe.directory=*", "log", "-1", "--format=%ct", "--", *_CARRIED]
    try:
        text = run(argv, cwd=repository).stdout.strip()
    except CommandError:
        return 0
    return int(text) if text else 0


def firstboot_package(package: Package, cache: Cache) -> Path:
    """The .deb from the cache, or newly built."""
    layer = cache.layer("deb", package.version)
    with cache.lock("deb", package.version, waiting=lambda: None):
        if not layer.is_dir():
            with cache.scratch() as scratch:
                made = scratch / "layer"
                made.mkdir()
                build(package, scratch / "root", made / package.file_name)
                cache.publish(made, "deb", package.version)
    return layer / package.file_name


def build(package: Package, root: Path, deb: Path) -> None:
    """Stage the package's files below root and pack them; the same input gives the same bits."""
    files = {**package.files, f"usr/share/doc/{NAME}/copyright": File(_COPYRIGHT)}
    write_tree(files, root)
    write_tree(_control(package, files), root / "DEBIAN")
    for path in (root, *root.rglob("*")):
        os.utime(path, (package.epoch, package.epoch))
    run(["dpkg-deb", "--root-owner-group", "--build", root, deb], env={"SOURCE_DATE_EPOCH": str(package.epoch)})


def _control(package: Package, files: Mapping[str, File]) -> dict[str, File]:
    values = {
        "version": package.version,
        "installed_kib": sum(len(file.data) for file in files.values()) // 1024 + 1,
        "units": enabled_units(files),
    }
    control = {}
    for name in ("control.j2", "postinst.j2", "prerm", "postrm.j2"):
        text = render(package.control[name], values)
        control[name.removesuffix(".j2")] = File(text, executable=not name.startswith("control"))
    sums = (f"{hashlib.md5(f.data, usedforsecurity=False).hexdigest()}  {name}\n" for name, f in sorted(files.items()))
    return control | {"md5sums": File("".join(sums).encode())}
