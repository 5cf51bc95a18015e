"""What a contest comes to: medians, as a table and as a picture, for a person and for docs/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from bench.contest import KINDS, OURS, RELEASE
from bench.load import Run

NOTES = {
    "mmdebstrap": "a tar, no disk image",
    "vmdb2": "BIOS only",
    "debos": "BIOS only; without fakemachine",
    "fai": "BIOS only; keeps nothing for the next build",
    "mkosi": "no boot loader",
}
"""What a peer's recipe here leaves out of what ours does, or why it has no figure."""
_HEAD = ("builder", "build", "runs", "wall s", "CPU s", "x ours", "peak MiB", "image MiB", "note")
_TITLES = {KINDS[0]: "cold", KINDS[1]: "one file changed", RELEASE: "one file changed, --release"}
_BEGIN, _END = "<!-- measured -->", "<!-- /measured -->"
_WIDTH = 50
"""Characters of the longest bar."""


@dataclass(frozen=True)
class Standing:
    """Medians of all runs of one kind by one contestant: seconds and bytes; or why there is none."""

    who: str
    kind: str
    runs: int
    wall: float
    cpu: float
    memory: float
    size: float
    failure: str = ""


def standings(runs: Sequence[Run]) -> list[Standing]:
    """By kind, the fastest first, and those who failed last."""
    found = []
    for kind in _TITLES:
        ranked = [_standing(who, kind, runs) for who in dict.fromkeys(run.who for run in runs if run.kind == kind)]
        found += sorted(ranked, key=lambda standing: (bool(standing.failure), standing.wall))
    return found


def _standing(who: str, kind: str, runs: Sequence[Run]) -> Standing:
    own = [run for run in runs if (run.who, run.kind) == (who, kind)]
    good = [run for run in own if not run.failure]
    if not good:
        return Standing(who, kind, len(own), 0, 0, 0, 0, own[0].failure)
    wall, cpu = median(run.wall for run in good), median(run.cpu for run in good)
    memory, size = median(run.memory for run in good), median(run.size for run in good)
    return Standing(who, kind, len(good), wall, cpu, memory, size)


def rows(found: Sequence[Standing]) -> list[tuple[str, ...]]:
    """The table's cells, without its head."""
    ours = {standing.kind: standing for standing in found if standing.who == OURS}
    return [_row(standing, ours.get(standing.kind)) for standing in found]


def _row(standing: Standing, ours: Standing | None) -> tuple[str, ...]:
    note = standing.failure or NOTES.get(standing.who, "")
    head = (standing.who, _TITLES[standing.kind], str(standing.runs))
    if standing.failure:
        return (*head, "-", "-", "-", "-", "-", note)
    ratio = f"{standing.wall / ours.wall:.2f}" if ours and not ours.failure else "-"
    figures = (f"{standing.wall:.1f}", f"{standing.cpu:.1f}", ratio)
    return (*head, *figures, f"{standing.memory / 2**20:.0f}", f"{standing.size / 2**20:.0f}", note)


def table(found: Sequence[Standing]) -> Table:
    """For a terminal."""
    shown = Table(*_HEAD)
    for row in rows(found):
        shown.add_row(*row)
    return shown


def markdown(found: Sequence[Standing]) -> str:
    """The same for docs/, with a plot in plain text below it."""
    lines = [_HEAD, tuple("---" for _ in _HEAD), *rows(found)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{plot(found)}\n"


def plot(found: Sequence[Standing]) -> str:
    """Wall seconds as bars of characters, indented as a block of code."""
    longest = max((standing.wall for standing in found), default=1) or 1
    bars = (
        f"    {standing.who:<11} {_TITLES[standing.kind]:<28} {'#' * round(_WIDTH * standing.wall / longest)}"
        f" {standing.wall:.1f} s"
        for standing in found
        if not standing.failure
    )
    return "\n".join(bars)


def publish(found: Sequence[Standing], page: Path, picture: Path) -> None:
    """Put table and plot between the marks of a page, and draw the picture beside it."""
    text = page.read_text()
    measured = f"{_BEGIN}\n{markdown(found)}{_END}"
    page.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: measured, text, flags=re.DOTALL))
    draw(found, picture)


def draw(found: Sequence[Standing], picture: Path) -> None:
    """Wall and CPU seconds as a PNG."""
    # Slow to load, and for this alone.
    from matplotlib.figure import Figure  # noqa: PLC0415

    kinds = [kind for kind in KINDS if any(standing.kind == kind and not standing.failure for standing in found)]
    figure = Figure(figsize=(9, 2.6 * max(len(kinds), 1)), layout="constrained")
    for number, kind in enumerate(kinds, start=1):
        shown = [standing for standing in reversed(found) if standing.kind == kind and not standing.failure]
        axes = figure.add_subplot(len(kinds), 1, number)
        axes.set_title(_TITLES[kind], loc="left")
        axes.set_xlabel("seconds: wall (wide), CPU of all cores together (narrow)")
        names = [standing.who for standing in shown]
        colours = ["tab:red" if name == OURS else "tab:blue" for name in names]
        axes.barh(names, [standing.wall for standing in shown], height=0.7, color=colours, alpha=0.5)
        axes.barh(names, [standing.cpu for standing in shown], height=0.25, color=colours)
    figure.savefig(picture, dpi=110)
