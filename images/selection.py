"""The layer below the root file system: which packages it is made of. With it in the cache, no mirror is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from config.debian import Repository
from config.door import write_file
from images import archive, origins, sources
from images.archive import Archive
from images.cache import Cache
from images.lock import Lock, check_available, parse_uris
from images.progress import Progress
from images.supply import Supply

_FILE = "selection.json"


@dataclass(frozen=True)
class Selection:
    """sha256 of each package by its name, all in the cache; and what was known when they were chosen.

    wanted: those that were asked for by name; modules: packages (as apt takes them) whose kernel modules are to be
    built; origins: package -> where its version came from; warnings: of pools, beside those of the offer.
    """

    debs: dict[str, str]
    wanted: tuple[str, ...]
    modules: tuple[str, ...]
    offer: sources.Offer
    origins: dict[str, str]
    warnings: tuple[str, ...]

    def paths(self, cache: Cache) -> list[Path]:
        """The .deb files."""
        return [archive.place(sha256, cache) for sha256 in self.debs.values()]


_JSON = TypeAdapter(Selection)


@dataclass(frozen=True)
class Question:
    """What is to be chosen, under which content key. supply: what there is beside Debian's archive; a directory is its.

    Without status (dpkg's record of what is there) all that a system needs is chosen, and firmware with it.
    """

    key: str
    suite: str
    mirror: sources.Mirror
    names: Sequence[str]
    lock: Lock | None
    repositories: Sequence[Repository]
    supply: Callable[[Path], Supply]
    status: str = ""

    def archive(self, scratch: Path) -> tuple[Archive, sources.Offer, Supply]:
        """Where the packages are, what that offers, and what there is beside it."""
        # Where there is no mirror, that is known before anything is made.
        offer = sources.survey(self.mirror, self.suite, scratch)
        supply = self.supply(scratch)
        offer = self.lock.bound(offer) if self.lock else offer
        return Archive(self.mirror, source_lines(offer, supply), scratch), offer, supply

    @property
    def preferences(self) -> str:
        """apt_preferences(5): with a lock, nothing but what it has."""
        return self.lock.preferences(others=-1) if self.lock else ""


def select(question: Question, cache: Cache, progress: Progress) -> Selection:
    """From the cache or newly chosen, and then with every package in the cache. Raises BuildError."""
    layer = cache.layer("packages", question.key)
    waiting = "another build is choosing the same packages; waiting for it"
    with cache.lock("packages", question.key, waiting=lambda: progress.note(waiting)):
        if layer.is_dir():
            known = _JSON.validate_json((layer / _FILE).read_bytes())
            if all(path.is_file() for path in known.paths(cache)):
                archive.note_use(known.debs.values(), cache)
                return known
        with cache.scratch() as scratch:
            chosen = _choose(question, scratch, cache, progress)
            write_file(scratch / "layer" / _FILE, _JSON.dump_json(chosen, indent=1))
            if layer.is_dir():
                layer.rename(scratch / "lacked-some")
            cache.publish(scratch / "layer", "packages", question.key)
    return chosen


def _choose(question: Question, scratch: Path, cache: Cache, progress: Progress) -> Selection:
    with progress.stage("choosing the packages"):
        where, offer, supply = question.archive(scratch)
        if question.lock:
            check_available(question.lock, where)
        wanted = question.names if question.status else (*question.names, *offer.firmware)
        include, modules = supply.divide(wanted)
        if question.status:
            # What files bring was installed, and their modules were built, with the system that is there.
            modules = []
        printed = where.to_install(include, question.preferences, question.status)
        versions = {name: chosen.version for name, chosen in parse_uris(printed).items()}
        told = origins.origins(where.policy(versions), versions, question.repositories, supply.pools)
    with progress.stage(f"fetching those of {len(versions)} packages that are not here"):
        debs = where.fetch(printed, cache)
    unused = origins.unused(supply.pools, versions)
    names = (*wanted, *(deb.name for deb in supply.files))
    return Selection(debs, names, tuple(modules), offer, told, tuple(unused))


def source_lines(offer: sources.Offer, supply: Supply) -> list[str]:
    """Where apt takes packages from, as sources.list(5) has it."""
    return [*(line for source in offer.sources for line in source.one_line()), *supply.lines]
