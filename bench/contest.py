"""The same packages into a bootable disk image, by us and by others: cold and with one file changed.

All of them have the same mirror, on the loopback, and a run counts only if that had all that was asked for. They take
turns, so that what else the machine does meets all of them alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from bench.load import Run, measured
from bench.mirror import Served, mirror_of
from bench.peers import Peer, Site, installed
from config.loader import Loaded, load
from config.model import Debian
from images import sources
from images.build import build_image
from images.namespace import remove_tree
from images.progress import Progress
from images.rootfs import wanted_packages

OURS = "xenpair"
KINDS = ("cold", "change")
RELEASE = "release"
_MIB = 1 << 20


class Contestant(Protocol):
    """Who builds an image."""

    name: str

    def measure(self, kind: str, number: int) -> Run | None:
        """One build; None where there is no such kind of it."""


def run_contest(config: Path, cache: Path, runs: int, names: Sequence[str], progress: Progress) -> list[Run]:
    """That many rounds of everybody installed and named. Needs about 20 GiB in cache. Raises MirrorError."""
    loaded = load(config)
    cache.mkdir(parents=True, exist_ok=True)
    with _room(cache) as room, mirror_of(sources.resolve(loaded.cluster.debian), cache / "bench-mirror") as served:
        plain = _with_mirror(loaded, served)
        ours, where = Ours(plain, room / OURS), _site(plain, room)
        peers = [Peer(name, where, room / name) for name in installed() if name in names]
        contestants: list[Contestant] = [ours, *peers]
        found = []
        for number in range(1, runs + 1):
            for kind in KINDS:
                found += [_settled(contestant, kind, number, served, progress) for contestant in contestants]
        return [run for run in (*found, ours.measure(RELEASE, 1)) if run is not None]


def _settled(contestant: Contestant, kind: str, number: int, served: Served, progress: Progress) -> Run | None:
    """Again, as long as the mirror had to fetch something."""
    while True:
        before = served.fetched()
        progress.note(f"round {number}: {contestant.name}, {kind} ...")
        run = contestant.measure(kind, number)
        progress.note(str(run))
        if run is None or run.failure or served.fetched() == before:
            return run


@contextmanager
def _room(cache: Path) -> Iterator[Path]:
    room = Path(tempfile.mkdtemp(dir=cache, prefix="bench-"))
    try:
        yield room
    finally:
        remove_tree(room)


def _with_mirror(loaded: Loaded, served: Served) -> Loaded:
    """Of that mirror alone: what is rebuilt or added for a config is not what is compared."""
    debian = Debian(suite=loaded.cluster.debian.suite, mirror=served.main)
    return replace(loaded, cluster=loaded.cluster.model_copy(update={"debian": debian}))


def _site(loaded: Loaded, room: Path) -> Site:
    """What our own image is made of."""
    debian = loaded.cluster.debian
    offer = sources.survey(sources.resolve(debian), debian.suite, room)
    return Site.of(debian.suite, debian.mirror, offer, (*wanted_packages(debian), *offer.firmware))


class Ours:
    """The build as `invoke build-image` does it."""

    def __init__(self, loaded: Loaded, directory: Path) -> None:
        self.name = OURS
        self._loaded = loaded
        self._directory = directory

    def measure(self, kind: str, number: int) -> Run:
        """cold: with nothing in the cache but packages; change: with another memory of dom0, which is in grub.cfg."""
        cache, out = self._directory / "cache", self._directory / "out"
        if kind == "cold" and cache.exists():
            for layer in cache.iterdir():
                if layer.name != "archive":
                    remove_tree(layer)
        remove_tree(out)
        loaded = _with_dom0_memory(self._loaded, number * _MIB if kind == "change" else 0)

        def build() -> None:
            build_image(loaded, out, ["qcow2"], cache=cache, progress=Progress(), release=kind == RELEASE)

        return measured(self.name, kind, build, lambda: out / "xenpair.qcow2")


def _with_dom0_memory(loaded: Loaded, more: int) -> Loaded:
    dom0 = loaded.cluster.dom0
    changed = dom0.model_copy(update={"memory": dom0.memory + more})
    return replace(loaded, cluster=loaded.cluster.model_copy(update={"dom0": changed}))
