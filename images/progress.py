"""What the build shows: a live line with the elapsed time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bar


class Progress:
    """Stages of a build, each with the seconds that it took."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Show that a stage is under way; when it ends, leave one line with its duration."""
        begun = time.monotonic()
        if self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            with Bar(*columns, console=self._console, transient=True) as bar:
                bar.add_task(title, total=None)
                yield
        else:
            self._line(f"{title} ...")
            yield
        self._line(f"{title}: {time.monotonic() - begun:.1f} s")

    @contextlib.contextmanager
    def measured(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """The same for something of so many bytes: call what this gives with how many are done by now."""
        begun = time.monotonic()
        if self._console.is_terminal:
            text = TextColumn("{task.description}", markup=False)
            columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            with Bar(*columns, console=self._console, transient=True) as bar:
                task = bar.add_task(title, total=total)
                yield lambda done: bar.update(task, completed=done)
        else:
            self._line(f"{title} ...")
            yield self._tenths(title, total)
        self._line(f"{title}: {time.monotonic() - begun:.1f} s")

    def _tenths(self, title: str, total: int) -> Callable[[int], None]:
        """A line for each tenth that is reached, but for the last, which is the end."""
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            if told < (tenth := min(10 * done // total, 9)):
                told = tenth
                self._line(f"{title}: {tenth}0%")

        return tell

    def note(self, text: str) -> None:
        """One line of plain information."""
        self._line(text)

    def warning(self, text: str) -> None:
        """One line that wants attention; the build goes on."""
        self._console.print(f"[bold yellow]WARNING:[/] {escape(text)}", soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)
