"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lab.campaign.scene import Scene

Since = Literal["formed", "fresh"]
"""The snapshot that a round begins from: a formed pair, or two nodes that have just begun their first boot."""


@dataclass(frozen=True)
class Fault:
    """name: as --faults takes it. text: what happens, for a list of them. act: does it.

    failing_disk: one node's backing disk fails some writes after the round's beginning.
    """

    name: str
    text: str
    act: Callable[[Scene], None]
    since: Since
    failing_disk: bool


def fault(
    name: str, text: str, *, since: Since = "formed", failing_disk: bool = False
) -> Callable[[Callable[[Scene], None]], Fault]:
    """Make a fault of a function that does it.

    The function returns once nothing is broken any more that only a hand can mend. From then on the pair has to come
    back by itself, whatever the fault has set going.
    """
    return lambda act: Fault(name, text, act, since, failing_disk)
