"""Waiting for the nodes: following their consoles, showing where they stand, telling what hangs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console as Terminal
from rich.live import Live
from rich.table import Table

from lab.console import Follower, Progress, Stage
from lab.errors import NotFormedError
from lab.process import Process

POLL = 0.25
"""Seconds between two looks at the consoles."""


@dataclass(frozen=True)
class Row:
    """One node, as it is shown."""

    node: str
    progress: Progress
    seconds: float
    """Since power-on."""
    since: float
    """Since it came to where it is."""


class Display(Protocol):
    """Something that shows rows; used as a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None: ...
    def show(self, rows: Sequence[Row]) -> None:
        """The present state of all nodes."""


class LiveTable:
    """A table redrawn in place, for a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._live = Live(console=terminal, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._live.__exit__(kind, e, tb)

    def show(self, rows: Sequence[Row]) -> None:
        """Redraw."""
        table = Table("node", "stage", "step", "seconds")
        table.columns[3].justify = "right"
        for row in rows:
            style = "red" if row.progress.failure else "green" if row.progress.formed else None
            step = row.progress.failure or str(row.progress.step or "")
            table.add_row(row.node, row.progress.stage.title, step, f"{row.seconds:.0f}", style=style)
        self._live.update(table)


class PlainLines:
    """A line for each change, for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        pass

    def show(self, rows: Sequence[Row]) -> None:
        """Print what changed."""
        for row in rows:
            if self._shown.get(row.node) != row.progress.text:
                self._shown[row.node] = row.progress.text
                print(f"{row.seconds:5.0f} s  {row.node}  {row.progress.text}", file=self._out, flush=True)


def display(out: TextIO | None = None) -> Display:
    """A live table on a terminal, plain lines elsewhere."""
    terminal = Terminal(file=out or sys.stdout)
    return LiveTable(terminal) if terminal.is_terminal else PlainLines(out or sys.stdout)


@dataclass
class Watched:
    """A node that is waited for."""

    name: str
    process: Process
    follower: Follower
    marks: dict[str, float] = field(default_factory=dict)
    """Seconds from power-on to each stage or step, first time seen."""
    changed: float = 0.0
    begun: int = 0
    """When its first QEMU was started, as Process.started."""
    _text: str = ""

    def poll(self) -> Row:
        """Look at its console."""
        progress, age = self.follower.poll(), self.age()
        if progress.text != self._text:
            self._text, self.changed = progress.text, age
            self.marks.setdefault(self._text, age)
        return Row(self.name, progress, age, age - self.changed)

    def age(self) -> float:
        """Seconds since its power-on; an installer's reset counts as a part of it."""
        ticks = os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.begun / ticks

    def account(self, what: str) -> str:
        """What is wrong with it, and the end of its console."""
        return f"{self.name} {what}; the end of its console:\n{self.follower.console.last_lines() or '  (nothing)'}"


def wait(
    nodes: Sequence[Watched],
    until: Stage,
    timeout: float,
    screen: Display,
    guard: Callable[[], None],
    *,
    power_on: Callable[[str], Process],
) -> Mapping[str, Mapping[str, float]]:
    """Wait until every node has come to that stage; by node, seconds from its power-on to each stage and step.

    guard is called at every look, and raises when something else than a node has ended. power_on: starts a node anew
    that has been installed, and ended at the reset that follows. Raises NotFormedError when a
    node fails, panics or ends, or after timeout seconds: naming each node that is not there, where it hangs, and the
    last lines of its console.
    """
    deadline = time.monotonic() + timeout
    with screen:
        while True:
            rows = [node.poll() for node in nodes]
            screen.show(rows)
            if all(row.progress.stage >= until for row in rows):
                return {node.name: node.marks for node in nodes}
            guard()
            for node, row in zip(nodes, rows, strict=True):
                if row.progress.failure:
                    raise NotFormedError(node.account(f"failed: {row.progress.failure}"), hint=_HINT)
                if not node.process.alive():
                    last = node.poll().progress
                    if last.installed and last.stage is Stage.INSTALLER:
                        node.process = power_on(node.name)
                        continue
                    raise NotFormedError(node.account("is off: its QEMU ended"), hint=_HINT)
            if time.monotonic() > deadline:
                hanging = [
                    node.account(f"hangs at {row.progress.text!r} since {row.since:.0f} s")
                    for node, row in zip(nodes, rows, strict=True)
                    if row.progress.stage < until
                ]
                raise NotFormedError(f"not there after {timeout:.0f} s: " + "\n".join(hanging), hint=_HINT)
            time.sleep(POLL)


_HINT = "the nodes go on running: look with `invoke lab.ssh --node N`, stop them with `invoke lab.down`"


def follow(directory: Path, name: str, process: Process, offset: int) -> Watched:
    """Watch a node from the power-on that begins at that offset of its console log."""
    return Watched(name, process, Follower(directory / f"{name}.log", offset), begun=process.started)
