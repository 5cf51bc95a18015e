"""Tells a server how a node gets on, for its web page. Best effort: nothing waits for it, and nothing depends on it.

A thread of its own sends the newest state; what it had no time for is not made up for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from config.errors import XenpairError
from firstboot.errors import RefusedError
from firstboot.pinned import PinnedServer

TEXT_LIMIT = 2000
LINE_LIMIT = 300
"""Characters of a text, and of one line of the log."""
LOG_LINES = 20
TIMEOUT = 5.0
"""Seconds without a byte, after which a report is given up."""
PAUSE = 2.0
"""Seconds before the next try."""


@dataclass(frozen=True)
class Report:
    """How it stands. machine: a MAC address; percent: of what is being written, else None."""

    ticket: str
    machine: str
    phase: Literal["installer", "firstboot"]
    step: str
    state: Literal["running", "waiting", "failed", "done"]
    text: str = ""
    percent: int | None = None
    log: tuple[str, ...] = ()


def last_lines(lines: Iterable[str]) -> tuple[str, ...]:
    """As much of a log as is told."""
    return tuple(line[:LINE_LIMIT] for line in lines)[-LOG_LINES:]


class Herald:
    """Carries reports to one server."""

    def __init__(self, server: PinnedServer) -> None:
        self._server = server
        self._changed = threading.Condition()
        self._newest: Report | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._carry, name="herald", daemon=True)
        self._thread.start()

    def tell(self, report: Report) -> None:
        """Returns at once."""
        with self._changed:
            self._newest = report
            self._changed.notify_all()

    def close(self, limit: float) -> bool:
        """Stop after at most that many seconds; whether the last report has been taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(limit)
        return self._newest is None

    def _carry(self) -> None:
        while (report := self._next()) is not None:
            if self._send(report):
                with self._changed:
                    if self._newest is report:
                        self._newest = None
            else:
                time.sleep(PAUSE)

    def _next(self) -> Report | None:
        with self._changed:
            while self._newest is None and not self._closed:
                self._changed.wait()
            return self._newest

    def _send(self, report: Report) -> bool:
        message = {**asdict(report), "text": report.text[:TEXT_LIMIT]}
        try:
            self._server.ask("/report", message, timeout=TIMEOUT)
        except RefusedError:
            # It knows neither ticket nor machine, or has been told too much: once more would change nothing.
            return True
        except XenpairError:
            return False
        return True
