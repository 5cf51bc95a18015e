"""The loop of firstboot.fencing.fence(), with the waiting and the BMC handed out; test_mirror.py holds both together.

A generator, because thousands of schedules need thousands of flights, and the real one sleeps and writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from firstboot.fencing import NEVER, POLL, RETRY, SAME_INCIDENT, STRIKE, State, frozen, hears_peer
from firstboot.plan.fencing import (
    AskPower,
    Hold,
    Look,
    Next,
    Power,
    PowerOff,
    Proven,
    Requester,
    Terms,
    Withdraw,
)
from firstboot.probe.drbd import DrbdState

FencingRule = Callable[[Requester, Look, Terms], Next]


class Call(Enum):
    """What is asked of the peer's BMC; the answer is sent in: a Power or None for ASK, whether it took it for ORDER.

    LET_GO is asked of the own DRBD.
    """

    ASK = "power status"
    ORDER = "power off"
    LET_GO = "drbdadm resume-io"


@dataclass(frozen=True, slots=True)
class Pause:
    """Let so many seconds pass. idle: nothing but a change at this site can alter the next decision."""

    seconds: float
    idle: bool = False


class Site(Protocol):
    """The node that a flight runs on: clock, DRBD, and files below /run (the time each was written, or None)."""

    confirmation: float | None
    proof: float | None
    struck_at: float | None
    progress: State | None

    def now(self) -> float:
        """Seconds."""
        ...

    def view(self) -> DrbdState:
        """As firstboot.observe.drbd."""
        ...

    def switch_on_later(self) -> None:
        """Start the process that gives the peer its power back."""
        ...


Flight = Generator[Call | Pause, Power | bool | None, bool]


class Pilot:
    """One flight, from the moment on in which fence() has the lock."""

    def __init__(self, site: Site, requester: Requester, terms: Terms, rule: FencingRule) -> None:
        self.site, self.requester, self.terms, self.rule = site, requester, terms, rule
        self.power: Power | None = None
        self.problem = ""
        self.answers_since = NEVER
        self.ordered_at: float | None = None
        self.struck = site.struck_at is not None and site.struck_at >= site.now() - STRIKE

    def fly(self, begun: float, limit: float | None) -> Flight:
        """What fence() does; returns what it returns."""
        site = self.site
        if self.requester == "drbd" and site.proof is not None and site.proof < begun - SAME_INCIDENT:
            site.proof = None
        self.answers_since = site.now()
        while limit is None or site.now() - begun < limit:
            look = self._look()
            match self.rule(self.requester, look, self.terms):
                case Proven(_, ours):
                    site.confirmation = None
                    if site.proof is None:
                        site.proof = site.now()
                    site.progress = "proven"
                    site.struck_at = None
                    state = site.view()
                    if frozen(state) and not hears_peer(state):
                        yield Call.LET_GO
                    if ours:
                        site.switch_on_later()
                    return True
                case Withdraw():
                    if look.connected:
                        site.progress = "withdrawn"
                    return False
                case Hold(_, loud):
                    site.progress = "holding" if loud else "pursuing"
                    by_bmc = self.terms.by_bmc
                    yield Pause(RETRY if by_bmc else POLL, idle=not by_bmc)
                    self.power, self.problem, self.ordered_at = None, "", None
                case AskPower():
                    yield from self._ask()
                case PowerOff():
                    yield from self._order()
        return False

    def _look(self) -> Look:
        site, now, state = self.site, self.site.now(), self.site.view()
        connected = hears_peer(state)
        if connected:
            site.confirmation = site.proof = None
        return Look(
            waited=max(0.0, now - self.answers_since),
            connected=connected,
            frozen=frozen(state),
            confirmed=site.confirmation is not None,
            proven=site.proof is not None,
            power=self.power,
            problem=self.problem,
            ordered=None if self.ordered_at is None else now - self.ordered_at,
            struck=self.struck,
        )

    def _ask(self) -> Generator[Call | Pause, Power | bool | None, None]:
        answer = yield Call.ASK
        if answer is None:
            self._failed()
            return
        self.power, self.problem = "on" if answer == "on" else "off", ""
        self.answers_since = min(self.answers_since, self.site.now())
        if self.power == "on" and self.ordered_at is not None:
            yield Pause(POLL)

    def _order(self) -> Generator[Call | Pause, Power | bool | None, None]:
        self.power = None
        if (yield Call.ORDER):
            self.ordered_at, self.struck, self.problem = self.site.now(), True, ""
            self.site.struck_at = self.ordered_at
        else:
            self._failed()

    def _failed(self) -> None:
        self.power, self.problem = None, "no answer"
        self.answers_since = NEVER
