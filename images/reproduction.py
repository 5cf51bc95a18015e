"""`invoke build-image --check-reproducible`: a second build from nothing, and what of it is not as the first one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from config.loader import Loaded
from images import manifest, namespace
from images.build import build_image
from images.cache import Cache
from images.difference import first_difference
from images.disklayer import Format
from images.errors import DifferenceError
from images.iso import ISO
from images.jobs import DifferenceJob, run_inside
from images.manifest import Manifest
from images.progress import Progress
from images.seed import SEED

_TIMEOUT = 7200.0
_SECRET = (ISO, SEED)
"""What of their contents differs is not for a terminal, nor for a log."""
_SHOWN = 60
"""Lines about one artifact; that many tell what kind of thing it is."""


def check_reproducible(
    loaded: Loaded, out: Path, formats: Sequence[Format], *, cache: Path, progress: Progress, release: bool = False
) -> None:
    """Build what build_image has made in out once more, with a cache of its own, and compare every file of both.

    Raises DifferenceError, which names each file that differs and where; whatever build_image raises.
    """
    with Cache(cache).scratch() as scratch:
        progress.note("building the same once more, with nothing from the cache")
        again = scratch / "out"
        build_image(loaded, again, formats, cache=scratch / "cache", progress=progress, release=release)
        with progress.stage("comparing"):
            sums = _sums(again)
            different = [*_told_differently(out, again), *_differences(sums, out, again, scratch)]
    if different:
        raise DifferenceError("\n".join(["two builds of the same inputs differ:", *different]))
    progress.note("both builds are the same:")
    for name, sum_ in sums.items():
        progress.note(f"{sum_}  {name}")


def _manifest(out: Path) -> Manifest:
    found = manifest.read(out)
    if found is None:
        raise DifferenceError(
            f"there is no manifest in {out} any more", hint="let no other build write there meanwhile"
        )
    return found


def _sums(out: Path) -> dict[str, str]:
    """Name -> sha256 of all that a build has made; other formats, which another build has left, do not count."""
    sums = {name: artifact.sha256 for name, artifact in sorted(_manifest(out).artifacts.items())}
    return sums | {name: manifest.measure(out / name).sha256 for name in _SECRET if (out / name).exists()}


def _told_differently(out: Path, again: Path) -> Iterator[str]:
    """What the manifests say of the image itself, line by line where it is not the same."""
    one, other = _manifest(out), _manifest(again)
    for package in sorted(one.packages.keys() | other.packages.keys()):
        versions = one.packages.get(package, "not there"), other.packages.get(package, "not there")
        if versions[0] != versions[1]:
            yield f"the mirror has moved on, see `invoke lock`: {package} {versions[0]}, then {versions[1]}"
    for fact in ("suite", "key", "config_hash", "root_uuid", "kernel", "warnings", "sources"):
        if (mine := getattr(one, fact)) != (theirs := getattr(other, fact)):
            yield f"{manifest.NAME}: {fact}: {mine}, then {theirs}"


def _differences(sums: dict[str, str], out: Path, again: Path, scratch: Path) -> Iterator[str]:
    for name, sum_ in sums.items():
        if manifest.measure(out / name).sha256 != sum_:
            if name in _SECRET:
                lines = [f"the first difference is at {first_difference(out / name, again / name)}"]
            else:
                lines = _explained(out / name, again / name, scratch)
            yield from (f"{name}: {line}" for line in lines[:_SHOWN])
            if len(lines) > _SHOWN:
                yield f"{name}: and {len(lines) - _SHOWN} lines more"


def _explained(one: Path, other: Path, scratch: Path) -> list[str]:
    trees, report = scratch / "trees", scratch / "report"
    run_inside(DifferenceJob(str(one.absolute()), str(other), str(trees), str(report)), timeout=_TIMEOUT)
    namespace.remove_tree(trees)
    return report.read_text().splitlines()
