"""xenpair-firstboot: a real Debian package of config/, firstboot/ and templates/, built without debhelper.

Its version is the project's, then the time of the last commit that touched what it carries, then a hash of that:
0.1.0+20260102030405.1a2b3c4d. So what was committed later sorts later, and an upgrade by apt takes it. Two uncommitted
states on one commit sort by chance; without git (a release tarball) the project's own version has to rise.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config.door import run
from config.errors import CommandError
from images.cache import Cache, content_key, contents
from images.jobs import REPOSITORY

NAME = "xenpair-firstboot"
PRIVATE = "usr/lib/xenpair"
UNITS = "usr/lib/systemd/system"

_CARRIED = ("config", "firstboot", "templates")
_NOT_CARRIED = ("image", "deb", "units", "dropins")
_EPOCH = 1735689600
"""Times of files where git tells none: 2025-01-01."""


def payload(repository: Path = REPOSITORY) -> dict[str, Path]:
    """Path on the node -> source file, for everything that the package carries."""
    found: dict[str, Path] = {}
    for package in ("config", "firstboot"):
        for path in (repository / package).rglob("*.py"):
            found[f"{PRIVATE}/{path.relative_to(repository)}"] = path
    templates = repository / "templates"
    for path in templates.rglob("*"):
        relative = path.relative_to(templates)
        if path.is_file() and relative.parts[0] not in _NOT_CARRIED:
            found[f"{PRIVATE}/templates/{relative}"] = path
    for directory in ("units", "dropins"):
        for path in (templates / directory).rglob("*"):
            if path.is_file():
                found[f"{UNITS}/{path.relative_to(templates / directory)}"] = path
    found["usr/bin/xenpair"] = templates / "deb/xenpair"
    return dict(sorted(found.items()))


def enabled_units(files: Mapping[str, Path]) -> list[str]:
    """Units of the package that say themselves where they want to be enabled."""
    services = [(Path(name).name, path) for name, path in files.items() if re.fullmatch(rf"{UNITS}/[^/]+", name)]
    return [name for name, path in services if "[Install]" in path.read_text()]


def content_hash(repository: Path = REPOSITORY) -> str:
    """Hash of all that the package is made of."""
    files = {name: contents([path], path.parent)[path.name] for name, path in payload(repository).items()}
    control = contents((repository / "templates/deb").iterdir(), repository)
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return content_key({"files": files, "control": control, "code": code})


def version(repository: Path = REPOSITORY) -> str:
    """Version of the package as it would be built now."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    committed = commit_time(repository)
    stamp = datetime.fromtimestamp(committed, UTC).strftime("%Y%m%d%H%M%S") + "." if committed else ""
    return f"{project}+{stamp}{content_hash(repository)[:8]}"


def commit_time(repository: Path) -> int:
    """Seconds since the epoch of the last commit that touched what the package carries; 0 where git does not tell."""
    argv = ["git", "-c", "safe.directory=*", "log", "-1", "--format=%ct", "--", *_CARRIED]
    try:
        text = run(argv, cwd=repository).stdout.strip()
    except CommandError:
        return 0
    return int(text) if text else 0


def firstboot_package(cache: Cache) -> Path:
    """The .deb from the cache, or newly built."""
    package_version = version()
    file_name = f"{NAME}_{package_version}_all.deb"
    layer = cache.layer("deb", package_version)
    with cache.lock("deb", package_version, waiting=lambda: None):
        if not (layer / file_name).is_file():
            with cache.scratch() as scratch:
                made = scratch / "layer"
                made.mkdir()
                build(package_version, scratch / "root", made / file_name)
                cache.publish(made, "deb", package_version)
    return layer / file_name


def build(package_version: str, root: Path, deb: Path) -> None:
    """Stage the package's files below root and pack them; the same input gives the same bits."""
    files = payload()
    _stage(files, root)
    _control(files, root, package_version)
    epoch = commit_time(REPOSITORY) or _EPOCH
    for path in (root, *root.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    run(["dpkg-deb", "--root-owner-group", "--build", root, deb], env={"SOURCE_DATE_EPOCH": str(epoch)})


def _stage(files: Mapping[str, Path], root: Path) -> None:
    for name, source in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if name.startswith("usr/bin/") or source.stat().st_mode & 0o100 else 0o644)
    doc = root / f"usr/share/doc/{NAME}"
    doc.mkdir(parents=True)
    (doc / "copyright").write_text(f"{NAME} is part of xenpair.\n")


def _control(files: Mapping[str, Path], root: Path, package_version: str) -> None:
    control = root / "DEBIAN"
    control.mkdir()
    staged = sorted(path for path in root.rglob("*") if path.is_file())
    values = {
        "version": package_version,
        "installed_kib": sum(path.stat().st_size for path in staged) // 1024 + 1,
        "units": enabled_units(files),
    }
    templates = REPOSITORY / "templates/deb"
    environment = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - shell and control files, no markup
    )
    for name in ("control.j2", "postinst.j2", "prerm", "postrm.j2"):
        target = control / name.removesuffix(".j2")
        target.write_text(environment.get_template(name).render(values))
        target.chmod(0o644 if target.name == "control" else 0o755)
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in staged
    )
    (control / "md5sums").write_text("".join(sums))
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    for name in ("md5sums",):
        (control / name).chmod(0o644)
    (root / f"usr/share/doc/{NAME}/copyright").chmod(0o644)
