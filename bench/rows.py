"""A measurement, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """What was measured: wall seconds, the most that they may be, and the CPU seconds of it and all its children."""

    what: str
    wall: float
    limit: float | None = None
    cpu: float | None = None


def table(rows: Sequence[Row]) -> Table:
    """For a person."""
    shown = Table("measured", "seconds", "CPU seconds", "limit", "kept")
    for column in shown.columns[1:4]:
        column.justify = "right"
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.1f}"
        kept = "" if row.limit is None else "yes" if row.wall <= row.limit else "NO"
        shown.add_row(row.what, f"{row.wall:.1f}", "" if row.cpu is None else f"{row.cpu:.1f}", limit, kept)
    return shown
