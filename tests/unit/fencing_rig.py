"""A flight of fencing with a BMC, a DRBD and a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from firstboot import bmc, fencing
from firstboot.brief import BmcBrief, FencingBrief
from firstboot.errors import BmcError
from firstboot.places import Places
from firstboot.probe.drbd import DrbdState

LOST = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "DUnknown", suspended=True)
BACK = DrbdState("Connected", "Primary", "Secondary", "UpToDate", "UpToDate")
GONE_ON = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated")
BMC = BmcBrief("ipmi", "192.168.132.242", 623, "xenpair", "hidden-password")
BRIEF = FencingBrief("xen2", 0, power_on=True, bmc=BMC)
NO_BMC = FencingBrief("xen2", 0, power_on=True, bmc=None)


@dataclass
class Controller:
    """A management controller: what it answers, in turn; the last answer stays."""

    answers: list[str]
    orders: list[str] = field(default_factory=list)

    def power(self) -> str:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer not in ("on", "off"):
            raise BmcError(answer)
        return answer

    def power_off(self) -> None:
        self.orders.append("off")

    def power_on(self) -> None:
        self.orders.append("on")


@dataclass
class Stage:
    """A clock that moves with every pause, a DRBD that shows what it is told to."""

    places: Places
    drbd: Callable[[float], DrbdState] = lambda _: LOST
    time: float = 100.0
    started: list[list[str]] = field(default_factory=list)
    ran: list[list[str]] = field(default_factory=list)

    def pause(self, seconds: float) -> None:
        self.time += seconds

    def fence(self, requester: str = "drbd", brief: FencingBrief = BRIEF, limit: float | None = 300) -> bool:
        return fencing.fence(requester, brief, self.places, "r0", limit=limit, pause=self.pause)  # type: ignore[arg-type]

    def status(self) -> fencing.FencingProgress:
        progress = fencing.read_fencing_progress(self.places)
        assert progress is not None
        return progress


def on_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """With the doors to the machine replaced."""
    stage = Stage(Places(tmp_path))
    monkeypatch.setattr(fencing, "now", lambda: stage.time)
    monkeypatch.setattr(fencing, "start", stage.started.append)
    monkeypatch.setattr(fencing, "run", stage.ran.append)
    monkeypatch.setattr("firstboot.observe.drbd", lambda: stage.drbd(stage.time))
    return stage


def controller(monkeypatch: pytest.MonkeyPatch, *answers: str) -> Controller:
    """The peer's, in the place of the real one."""
    found = Controller(list(answers))
    monkeypatch.setattr(fencing, "bmc_of", lambda brief: found if brief else bmc.NoBmc())
    return found
