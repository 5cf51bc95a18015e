"""The span of time in which secrets are handed out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Open from the server's start for so many seconds, by the given clock; nothing opens it again."""

    closes: float
    clock: Callable[[], float]

    @property
    def is_open(self) -> bool:
        """Whether secrets may be handed out now."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds until it closes; 0 once it is closed."""
        return max(0.0, self.closes - self.clock())


def minutes(seconds: float) -> str:
    """A span as people say it."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
