"""Fencing: when a flight shoots, and how often it asks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from firstboot import fencing
from firstboot.brief import FencingBrief
from firstboot.errors import BmcError
from firstboot.places import Places
from firstboot.plan.fencing import GRACE
from tests.unit.fencing_rig import BMC, Controller, Stage, controller

SECOND_BRIEF = FencingBrief("xen1", 20, power_on=True, bmc=BMC)


@dataclass
class Dated(Controller):
    """It answers what it is at that time, and notes when it was asked and ordered."""

    clock: Callable[[], float] = lambda: 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    asked_at: list[float] = field(default_factory=list)
    ordered_at: list[float] = field(default_factory=list)

    def power(self) -> str:
        self.asked_at.append(self.clock())
        if self.outage[0] <= self.clock() < self.outage[1]:
            raise BmcError("no answer")
        return "off" if self.ordered_at else "on"

    def power_off(self) -> None:
        self.ordered_at.append(self.clock())


def dated(stage: Stage, monkeypatch: pytest.MonkeyPatch, outage: tuple[float, float] = (0.0, 0.0)) -> Dated:
    box = Dated([], clock=lambda: stage.time, outage=outage)
    monkeypatch.setattr(fencing, "bmc_of", lambda _: box)
    return box


@pytest.mark.parametrize("end", [101.0, 105.0, 120.0, 140.0, 200.0])
def test_after_an_outage_of_the_bmcs_network_the_delay_counts_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, end: float
) -> None:
    box = dated(stage, monkeypatch, (100.0, end))
    assert stage.fence(brief=SECOND_BRIEF)
    (ordered,) = box.ordered_at
    assert end + GRACE + 20 <= ordered <= end + GRACE + 20 + 2 * fencing.RETRY


def test_an_outage_that_begins_while_the_peer_may_come_back_makes_the_delay_count_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = dated(stage, monkeypatch, (115.0, 118.0))
    assert stage.fence(brief=SECOND_BRIEF)
    assert box.ordered_at[0] >= 118 + GRACE + 20


def test_the_delay_counts_from_a_flights_turn(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def after_another_flight(_: Places) -> Iterator[None]:
        stage.time += 100
        yield

    monkeypatch.setattr(fencing, "_single_flight", after_another_flight)
    box = dated(stage, monkeypatch)
    assert stage.fence("heartbeat", brief=SECOND_BRIEF)
    assert box.ordered_at[0] >= 200 + GRACE + 20


def test_a_peer_without_power_is_proven_off_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    controller(monkeypatch, "off")
    assert stage.fence(brief=SECOND_BRIEF)
    assert stage.time < 101


def test_a_bmc_is_not_asked_more_often_than_a_weak_one_can_bear(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = dated(stage, monkeypatch)
    assert stage.fence(brief=SECOND_BRIEF)
    waiting = [at for at in box.asked_at if at < box.ordered_at[0]]
    assert all(later - at >= fencing.RETRY for at, later in itertools.pairwise(waiting))
