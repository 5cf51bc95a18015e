"""`invoke bench`: the rows of all measurements, as ratios in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.build import measure_builds
from bench.forming import measure_forming
from config.errors import XenpairError
from images.progress import Progress


class BenchError(XenpairError):
    """There is no such measurement."""


@dataclass(frozen=True)
class Row:
    """What was measured, wall and CPU seconds (None where it is not ours to count), and the most that it may take."""

    what: str
    wall: float
    cpu: float | None
    limit: float | None


def measure(config: Path, cache: Path, out: Path, only: Sequence[str]) -> None:
    """Measure what is named in only (build, lab), and print a table. Raises BenchError for another name."""
    known = {"build", "lab"}
    for name in only:
        if name not in known:
            raise BenchError(f"there is no measurement {name!r}", hint=f"there are {', '.join(sorted(known))}")
    rows: list[Row] = []
    if "build" in only:
        rows += [Row(r.what, r.wall, r.cpu, r.limit) for r in measure_builds(config, cache, Progress())]
    if "lab" in only:
        rows += [Row(r.what, r.wall, None, r.limit) for r in measure_forming(config, cache, out)]
    Console().print(_table(rows))


def _table(rows: Sequence[Row]) -> Table:
    table = Table("measured", "seconds", "CPU seconds", "limit", "kept")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.1f}"
        kept = "" if row.limit is None else "yes" if row.wall <= row.limit else "NO"
        table.add_row(row.what, f"{row.wall:.1f}", "" if row.cpu is None else f"{row.cpu:.1f}", limit, kept)
    return table
