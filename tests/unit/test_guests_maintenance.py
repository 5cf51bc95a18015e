"""Planned maintenance: what is asked of a cluster stack that does not always listen."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from firstboot.errors import GuestError
from firstboot.guests import maintenance


@dataclass
class Stack:
    """One that drops what it is asked until it has settled, at that second."""

    settled: float
    now: float = 0.0
    asked: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self) -> None:
        self.asked.append(self.now)

    def handed_over(self) -> bool:
        return any(at >= self.settled for at in self.asked)


def hand_over(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> list[float]:
    monkeypatch.setattr(maintenance, "time", stack)
    maintenance._hand_over(stack.ask, stack.handed_over, "it is left here")
    return stack.asked


def test_a_stack_that_listens_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hand_over(monkeypatch, Stack(settled=0)) == [0]


def test_a_stack_that_still_settles_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hand_over(monkeypatch, Stack(settled=15)) == [0, 10, 20]


def test_one_that_never_hands_over_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(settled=1000)
    with pytest.raises(GuestError, match="it is left here, after 120 s"):
        hand_over(monkeypatch, stack)
    assert stack.now <= maintenance.HAND_OVER_LIMIT + 1
