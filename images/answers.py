"""`invoke build-image --formats preseed`: what Debian's own installer takes; it puts together a system of its own."""

from __future__ import annotations

from pathlib import Path

from config import secrets
from config.carried import require_files
from config.loader import Loaded
from images import lock, preflight
from images.cache import Cache
from images.deb import Package, firstboot_package
from images.preseed import write_preseed
from images.progress import Progress
from images.seed import SEED, write_seed


def build_answers(loaded: Loaded, out: Path, *, cache: Path, progress: Progress) -> None:
    """Write out/preseed and out/seed.img. Raises BuildError, and ConfigError where a file of the config is missing."""
    store = Cache(cache)
    preflight.check_tools()
    require_files(loaded)
    with store.building(out, progress.note):
        if lock.path_of(loaded.source).exists() or loaded.cluster.debian.snapshot:
            progress.warning("Debian's own installer takes what the mirror has then: no lock and no snapshot binds it")
        own = secrets.ensure(loaded.cluster, loaded.source.parent / "secrets")
        write_preseed(loaded, firstboot_package(Package.read(), store), out, cache=store, progress=progress)
        if write_seed(loaded.source, own.to_yaml(), out / SEED):
            progress.note(f"wrote the seed medium {out / SEED}: it holds the cluster's secrets")
