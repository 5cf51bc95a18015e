"""The order of the steps, as `xenpair plan` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PlannedStep:
    """A line of `xenpair plan`."""

    name: str
    text: str
    state: Literal["done", "next", "later"]


def outline(steps: Sequence[tuple[str, str]], done: Sequence[str]) -> tuple[PlannedStep, ...]:
    """The ordered steps (name, text) with what is done, what is next, and what comes later."""
    pending = [name for name, _ in steps if name not in done]
    following = pending[0] if pending else None
    return tuple(
        PlannedStep(name, text, "done" if name in done else "next" if name == following else "later")
        for name, text in steps
    )
