"""The model's flight and the real fence() do the same, whatever DRBD, the BMC and the administrator do meanwhile.

When fence() changes and this fails, flight.py is what has to follow.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstboot import fencing
from firstboot.brief import BmcBrief, FencingBrief
from firstboot.errors import BmcError
from firstboot.places import Places
from firstboot.plan.fencing import Power, Requester, Terms, next_fencing_step
from firstboot.probe.drbd import DrbdState
from tests.model.flight import Call, Pilot
from tests.model.schedule import COUNT

BEGINNING, END = 1000.0, 2000.0
"""When a flight begins, and when the peer is back for good."""

BMC = BmcBrief("ipmi", "192.168.132.242", 623, "xenpair", "hidden-password")


class Span(NamedTuple):
    """So many seconds in which DRBD hears the peer or not, I/O is frozen or not, the BMC says what it says."""

    seconds: float
    connected: bool
    frozen: bool
    power: Power | None


class Script(NamedTuple):
    """A flight and its surroundings. call: seconds of the BMC; confirmed, proven, struck: when each was noted."""

    requester: Requester
    by_bmc: bool
    delay: int
    limit: float | None
    call: float
    confirmed: float | None
    proven: float | None
    struck: float | None
    spans: tuple[Span, ...]


@dataclass
class Stage:
    """A clock that moves with every pause and every call, and a protocol of what was done."""

    script: Script
    time: float = BEGINNING
    done: list[tuple[object, ...]] = field(default_factory=list)

    def span(self) -> Span:
        """What is the case now."""
        left = self.time - BEGINNING
        for span in self.script.spans:
            left -= span.seconds
            if left < 0:
                return span
        return Span(0, connected=self.time >= END, frozen=self.time < END, power="on")

    def view(self) -> DrbdState:
        """DRBD."""
        span = self.span()
        peer_role = "Primary" if span.connected else "Unknown"
        return DrbdState("WFConnection", "Primary", peer_role, "UpToDate", suspended=span.frozen)

    def call(self, what: Call) -> Power | None:
        """The BMC, which takes its time."""
        self.time += self.script.call
        self.done.append((what, self.time, self.span().power))
        return self.span().power

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.done.append(("pause", self.time, seconds))
        self.time += seconds


class Mirror(Stage):
    """The model's side."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.proof, self.struck_at = script.proven, script.struck
        self.progress: fencing.State | None = None
        self._confirmed = script.confirmed

    @property
    def confirmation(self) -> float | None:
        """It lies there from its time on, until it is removed."""
        return self._confirmed if self._confirmed is not None and self._confirmed <= self.time else None

    @confirmation.setter
    def confirmation(self, value: float | None) -> None:
        if self.confirmation is not None:
            self._confirmed = value

    def now(self) -> float:
        """Seconds."""
        return self.time

    def switch_on_later(self) -> None:
        """Noted."""
        self.done.append(("switch on",))

    def fly(self) -> bool:
        """To the end."""
        script = self.script
        terms = Terms("xen2", script.by_bmc, script.delay)
        flight = Pilot(self, script.requester, terms, next_fencing_step).fly(self.time, script.limit)
        answer: Power | bool | None = None
        while True:
            try:
                step = flight.send(answer)
            except StopIteration as end:
                return cast(bool, end.value)
            answer = None
            if step is Call.LET_GO:
                self.done.append(("let go",))
            elif isinstance(step, Call):
                power = self.call(step)
                answer = power if step is Call.ASK else power is not None
            else:
                self.pause(step.seconds)


class Real(Stage):
    """firstboot.fencing itself, on files in a directory."""

    def __init__(self, script: Script, root: Path) -> None:
        super().__init__(script)
        self.places = Places(root)
        self._unconfirmed = script.confirmed
        self.places.confirmation.parent.mkdir(parents=True)
        if script.proven is not None:
            self.places.fencing_proof.write_text(json.dumps({"at": script.proven}))
        if script.struck is not None:
            self.places.fencing_strike.write_text(json.dumps({"at": script.struck}))

    def now(self) -> float:
        """The administrator's word appears when it is time."""
        if self._unconfirmed is not None and self._unconfirmed <= self.time:
            self._unconfirmed = None
            self.places.confirmation.write_text("{}")
        return self.time

    def power(self) -> Power:
        """`chassis power status`."""
        power = self.call(Call.ASK)
        if power is None:
            raise BmcError("no answer")
        return power

    def power_off(self) -> None:
        """`chassis power off`."""
        if self.call(Call.ORDER) is None:
            raise BmcError("no answer")

    def fly(self) -> bool:
        """To the end."""
        script = self.script
        brief = FencingBrief("xen2", script.delay, power_on=True, bmc=BMC if script.by_bmc else None)
        return fencing.fence(script.requester, brief, self.places, "r0", limit=script.limit, pause=self.pause)


def write_file(path: Path, content: str, **_: object) -> bool:
    """Without the fsyncs."""
    path.write_text(content)
    return True


@contextmanager
def real(script: Script) -> Iterator[Real]:
    """With fencing's doors to the machine replaced."""
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        stage = Real(script, Path(root))
        patch.setattr(fencing, "now", stage.now)
        patch.setattr(fencing, "bmc_of", lambda _: stage)
        patch.setattr(fencing, "write_file", write_file)
        patch.setattr(fencing, "run", lambda _: stage.done.append(("let go",)))
        patch.setattr(fencing, "start", lambda _: stage.done.append(("switch on",)))
        patch.setattr("firstboot.observe.drbd", stage.view)
        yield stage


def scripts() -> st.SearchStrategy[Script]:
    """Short stories."""
    seconds: Callable[..., st.SearchStrategy[float]] = st.sampled_from
    span = st.builds(
        Span, seconds((0.5, 2.0, 7.0, 30.0, 300.0)), st.booleans(), st.booleans(), st.sampled_from(("on", "off", None))
    )
    quiet = st.builds(
        Span, seconds((2.0, 8.0, 40.0, 120.0)), st.just(value=False), st.just(value=True), st.sampled_from(("on", None))
    )
    times = st.none() | st.sampled_from((900.0, 995.0, 1000.0, 1002.0, 1030.0, 1100.0))
    return st.builds(
        Script,
        requester=st.sampled_from(("drbd", "pursuit", "heartbeat")),
        by_bmc=st.sampled_from((True, True, False)),
        delay=st.sampled_from((0, 18)),
        limit=st.sampled_from((240.0, 60.0)),
        call=st.sampled_from((0.3, 2.0, 20.0)),
        confirmed=times,
        proven=times.filter(lambda at: at is None or at <= BEGINNING),
        struck=times.filter(lambda at: at is None or at <= BEGINNING),
        spans=st.lists(quiet | span, max_size=5).map(tuple),
    ).map(lambda script: script._replace(limit=None) if script.requester == "pursuit" else script)


@settings(max_examples=max(COUNT // 80, 20), derandomize=True, deadline=None, database=None)
@given(scripts())
def test_the_models_flight_is_that_of_fence(script: Script) -> None:
    mirror = Mirror(script)
    result = mirror.fly()
    with real(script) as stage:
        assert stage.fly() == result
        assert stage.done == mirror.done
        stage.now()
        assert stage.places.confirmation.exists() == (mirror.confirmation is not None)
        assert stage.places.fencing_proof.exists() == (mirror.proof is not None)
        assert stage.places.fencing_strike.exists() == (mirror.struck_at is not None)
        progress = fencing.read_fencing_progress(stage.places)
        assert (progress and progress.state) == mirror.progress
