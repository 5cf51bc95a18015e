"""`invoke bench`: all measurements, as ratios in one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.build import measure_builds
from bench.contest import run_contest
from bench.forming import measure_forming
from bench.guests import measure_guests
from bench.installing import measure_installing
from bench.peers import DEBIAN_PACKAGES
from bench.rows import Row, table
from bench.serve import measure_serving
from bench.standings import publish, standings
from bench.standings import table as contest_table
from bench.volumes import measure_volumes
from config.errors import XenpairError
from images.progress import Progress


class BenchError(XenpairError):
    """There is no such measurement."""


def compare(config: Path, cache: Path, docs: Path, runs: int, peers: str) -> None:
    """Build with everybody in turn, print the table, and put it with its plots into docs. Raises MirrorError."""
    known = tuple(DEBIAN_PACKAGES)
    names = peers.split(",") if peers else known
    if wrong := sorted(set(names) - set(known)):
        raise BenchError(f"there is no peer {', '.join(wrong)}", hint=f"there are {', '.join(known)}")
    found = standings(run_contest(config, cache, runs, names, Progress()))
    Console().print(contest_table(found))
    publish(found, docs / "benchmark.md", docs / "benchmark.png")


def measure(config: Path, cache: Path, out: Path, only: Sequence[str]) -> None:
    """Measure what is named in only, and print a table. Raises BenchError for a name that there is not."""
    known = ("build", "lab", "install", "guests", "volumes", "serve")
    for name in only:
        if name not in known:
            raise BenchError(f"there is no measurement {name!r}", hint=f"there are {', '.join(known)}")
    rows: list[Row] = []
    if "build" in only:
        rows += measure_builds(config, cache, Progress())
    if "lab" in only:
        rows += measure_forming(config, cache, out)
    if "install" in only:
        rows += measure_installing(config, cache, out)
    if "guests" in only:
        rows += measure_guests(config, cache, out)
    if "volumes" in only:
        rows += measure_volumes(config, cache, out)
    if "serve" in only:
        rows += measure_serving(config, cache)
    Console().print(table(rows))
