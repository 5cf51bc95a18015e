"""How long the image takes: cold, unchanged and after a change, against mmdebstrap of the same packages to a tar."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.floor import mmdebstrap_argv
from bench.rows import Row
from config.debian_files import on_this_host
from config.door import run
from config.loader import Loaded, load
from images import sources
from images.build import build_image
from images.cache import Cache
from images.disklayer import Format
from images.namespace import isolated, remove_tree
from images.progress import Progress
from images.proxies import proxy_environment
from images.rootfs import Request
from images.supply import supplied

COLD_LIMIT = 0.6
"""Times the floor: dpkg there has one core."""
UNCHANGED_LIMIT = 2.0
"""Seconds."""
CHANGED_LIMIT = 3.0
"""Seconds."""
ADDED_LIMIT = 20.0
"""Seconds."""
ADDED = "tree"
"""A small package that no image has."""

_FORMATS: tuple[Format, ...] = ("qcow2", "raw")
_TIMEOUT = 3600.0


def measure_builds(config: Path, cache: Path, progress: Progress) -> list[Row]:
    """Floor, cold build, unchanged, a changed value of the image's config, one of the nodes', one package more.

    Uses a cache of its own below cache, which is gone afterwards; needs about 6 GiB there. Raises BuildError.
    """
    loaded = load(config)
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="bench-"))
    try:
        floor = _timed("mmdebstrap to a tar (the floor)", lambda: _floor(loaded, scratch, progress))
        cold = _timed("cold build", lambda: _build(loaded, scratch, progress), COLD_LIMIT * floor.wall)
        unchanged = _timed("unchanged rebuild", lambda: _build(loaded, scratch, progress), UNCHANGED_LIMIT)
        for_image, for_nodes = _with_more_dom0_memory(loaded), _with_other_deadtime(loaded)
        changed = _timed("change of the image's config", lambda: _build(for_image, scratch, progress), CHANGED_LIMIT)
        _build(loaded, scratch, progress)
        seed_only = _timed("change of the nodes' config", lambda: _build(for_nodes, scratch, progress), CHANGED_LIMIT)
        more = _with_one_package_more(loaded)
        added = _timed("one package more", lambda: _build(more, scratch, progress), ADDED_LIMIT)
    finally:
        remove_tree(scratch)
    return [floor, cold, unchanged, changed, seed_only, added]


def _timed(what: str, work: Callable[[], None], limit: float | None = None) -> Row:
    wall, cpu = time.monotonic(), _cpu_seconds()
    work()
    return Row(what, time.monotonic() - wall, limit, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _floor(loaded: Loaded, scratch: Path, progress: Progress) -> None:
    request = Request.of(on_this_host(loaded).debian)
    offer = sources.survey(request.mirror, request.debian.suite, scratch)
    supply = supplied(request.debs, request.backports, scratch, Cache(scratch), progress)
    argv = mmdebstrap_argv(request, offer, supply, scratch, scratch / "floor.tar")
    environment = {"TMPDIR": str(scratch), **proxy_environment()}
    with progress.stage("mmdebstrap to a tar"):
        run(isolated(argv), timeout=_TIMEOUT, env=environment)


def _build(loaded: Loaded, scratch: Path, progress: Progress) -> None:
    build_image(loaded, scratch / "out", _FORMATS, cache=scratch / "cache", progress=progress)


def _with_more_dom0_memory(loaded: Loaded) -> Loaded:
    dom0 = loaded.cluster.dom0
    more = dom0.model_copy(update={"memory": dom0.memory + (256 << 20)})
    return replace(loaded, cluster=loaded.cluster.model_copy(update={"dom0": more}))


def _with_one_package_more(loaded: Loaded) -> Loaded:
    debian = loaded.cluster.debian
    more = debian.model_copy(update={"packages": (*debian.packages, ADDED)})
    return replace(loaded, cluster=loaded.cluster.model_copy(update={"debian": more}))


def _with_other_deadtime(loaded: Loaded) -> Loaded:
    heartbeat = loaded.cluster.heartbeat
    slower = heartbeat.model_copy(update={"deadtime": heartbeat.deadtime + 1})
    return replace(loaded, cluster=loaded.cluster.model_copy(update={"heartbeat": slower}))
