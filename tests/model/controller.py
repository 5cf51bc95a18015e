"""A management controller: what it answers, how long that takes, and what it does to its node's power."""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import Protocol

from firstboot.bmc import TIMEOUT
from firstboot.plan.fencing import Power
from tests.model.clock import Clock, Gate

FORCE_OFF = 6.0
"""Seconds until a server that was told to is off, at most (firstboot.plan.fencing.INSIST says why)."""

GIVE_UP = 6.0
"""Seconds until ipmitool stops to ask a BMC that does not answer, at least: RETRIES tries of 1, 2 and 3 s."""


class Mode(Enum):
    """How it behaves. What it says about the power is always true."""

    OK = "answers within a second or so"
    SLOW = "answers after 2 to 12 s"
    LATE = "answers when nobody waits any more, and carries the order out then"
    LIES = "takes every order and does nothing"
    UNREACHABLE = "does not answer"


class Machine(Protocol):
    """The node that it belongs to."""

    power: bool

    def cut_power(self, why: str) -> None:
        """At once."""
        ...

    def switch_on(self) -> None:
        """And boot."""
        ...


Answer = Generator[float | Gate, None, Power | bool | None]


class Controller:
    """powered: it has current itself; wired: asks whether the network to it works right now."""

    def __init__(
        self, clock: Clock, machine: Machine, fraction: Callable[[], float], wired: Callable[[], bool]
    ) -> None:
        self.clock, self.machine = clock, machine
        self._fraction, self._wired = fraction, wired
        self.mode = Mode.OK
        self.powered = True
        self.orders = 0

    @property
    def reachable(self) -> bool:
        """Whether a question would get an answer, some time."""
        return self.powered and self.mode is not Mode.UNREACHABLE and self._wired()

    def ask(self) -> Answer:
        """`chassis power status`: on, off, or None for no answer."""
        if not (yield from self._talk()):
            return None
        return "on" if self.machine.power else "off"

    def order_off(self) -> Answer:
        """`chassis power off`: whether it took the order."""
        if self.mode is Mode.LATE and self.reachable:
            self._carry_out(TIMEOUT + 25 * self._fraction(), self._off)
        if not (yield from self._talk()):
            return False
        if self.mode is not Mode.LIES:
            self._carry_out(0.5 + (FORCE_OFF - 0.5) * self._fraction(), self._off)
        return True

    def order_on(self) -> Answer:
        """`chassis power on`."""
        if not (yield from self._talk()):
            return False
        if self.mode is not Mode.LIES:
            self._carry_out(0.5, self.machine.switch_on)
        return True

    def _talk(self) -> Generator[float | Gate, None, bool]:
        if not self.reachable or self.mode is Mode.LATE:
            yield TIMEOUT if self.mode is Mode.LATE else GIVE_UP + 2 * self._fraction()
            return False
        yield 2 + 10 * self._fraction() if self.mode is Mode.SLOW else 0.2 + 0.3 * self._fraction()
        return self.reachable

    def _carry_out(self, seconds: float, effect: Callable[[], None]) -> None:
        self.orders += 1

        def act() -> None:
            self.orders -= 1
            if self.powered:
                effect()

        self.clock.after(seconds, act)

    def _off(self) -> None:
        if self.machine.power:
            self.machine.cut_power("fenced")
