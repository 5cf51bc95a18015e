"""`invoke lock`: choose the packages, and write the lock."""

from __future__ import annotations

from config.debian_files import on_this_host
from config.door import write_file
from config.loader import Loaded
from images import lock, preflight, sources
from images.archive import Archive
from images.cache import Cache
from images.lock import Lock
from images.progress import Progress
from images.rootfs import Request, wanted_packages
from images.selection import source_lines
from images.supply import FOR_MODULES, supplied


def write_lock(loaded: Loaded, *, cache: Cache, update: bool, progress: Progress) -> None:
    """Write the lock of a config: new packages are added, those that it has stay; with update all are chosen anew.

    Raises LockError where the mirror no longer has a locked package, MirrorError where it cannot be asked.
    """
    preflight.check_tools()
    preflight.check_namespaces()
    path = lock.path_of(loaded.source)
    old = None if update else lock.read(path)
    debian = on_this_host(loaded).debian
    request = Request.of(debian)
    with cache.in_use(progress.note), cache.scratch() as scratch:
        supply = supplied(request.debs, request.backports, scratch, cache, progress)
        with progress.stage("asking the mirror for packages"):
            offer = sources.survey(request.mirror, debian.suite, scratch)
            archive = Archive(request.mirror, source_lines(offer, supply), scratch)
            if old:
                lock.check_available(old, archive)
            include, modules = supply.divide((*wanted_packages(debian), *offer.firmware))
            names = [*include, *modules, *(FOR_MODULES if modules else ())]
            chosen = archive.to_install(names, old.preferences(others=500) if old else "")
    new = Lock(suite=debian.suite, date=old.date if old else offer.date, packages=lock.parse_uris(chosen))
    before = old or lock.read(path)
    for change in lock.changes(before, new):
        progress.note(change)
    written = write_file(path, new.to_text())
    progress.note(f"{path}: {len(new.packages)} packages" + ("" if written else ", as before"))
