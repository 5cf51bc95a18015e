"""`invoke lock`: choose the packages, and write the lock."""

from __future__ import annotations

from config.door import write_file
from config.loader import Loaded
from images import backport, lock, preflight, sources
from images.archive import Archive
from images.cache import Cache
from images.lock import Lock
from images.progress import Progress
from images.rootfs import Request, source_lines, wanted_packages


def write_lock(loaded: Loaded, *, cache: Cache, update: bool, progress: Progress) -> None:
    """Write the lock of a config: new packages are added, those that it has stay; with update all are chosen anew.

    Raises LockError where the mirror no longer has a locked package, MirrorError where it cannot be asked.
    """
    preflight.check_tools()
    preflight.check_namespaces()
    path = lock.path_of(loaded.source)
    old = None if update else lock.read(path)
    debian = loaded.cluster.debian
    request = Request.of(debian)
    with cache.in_use(progress.note):
        pools = [backport.pool(wanted, cache, progress) for wanted in request.backports]
        with cache.scratch() as scratch, progress.stage("asking the mirror for packages"):
            offer = sources.survey(request.mirror, debian.suite, scratch)
            archive = Archive(request.mirror, debian.suite, source_lines(offer, pools), scratch)
            if old:
                lock.check_available(old, archive)
            preferences = old.preferences(others=500) if old else ""
            chosen = archive.to_install([*wanted_packages(debian), *offer.firmware], preferences)
    new = Lock(suite=debian.suite, date=old.date if old else offer.date, packages=lock.parse_uris(chosen))
    before = old or lock.read(path)
    for change in lock.changes(before, new):
        progress.note(change)
    written = write_file(path, new.to_text())
    progress.note(f"{path}: {len(new.packages)} packages" + ("" if written else ", as before"))
