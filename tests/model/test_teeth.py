"""Decisions and people that are wrong on purpose: the model must find each of them out."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, settings

from firstboot.plan.fencing import Look, Proven, Requester, Terms, next_fencing_step
from firstboot.plan.fencing import Next as FencingNext
from firstboot.plan.replication import InitialSync, Promote, next_storage_step
from firstboot.plan.replication import Next as StorageNext
from firstboot.probe.drbd import DrbdState
from tests.model.audit import BrokenError
from tests.model.schedule import FAULTS, Schedule, play, schedules

BOUND = 6000
"""Schedules in which a mistake must show."""


def proven_by_patience(requester: Requester, look: Look, terms: Terms) -> FencingNext:
    """Who has not come back after a minute will not come back."""
    if look.waited > 60 and not look.connected:
        return Proven(by="patience")
    return next_fencing_step(requester, look, terms)


def proven_by_an_order(requester: Requester, look: Look, terms: Terms) -> FencingNext:
    """A BMC that takes the order will have carried it out."""
    if look.struck:
        return Proven(by="its BMC, presumably", ours=True)
    return next_fencing_step(requester, look, terms)


def proven_by_silence(requester: Requester, look: Look, terms: Terms) -> FencingNext:
    """A BMC that does not answer has no power, so its server has none."""
    if look.problem:
        return Proven(by="its BMC's silence")
    return next_fencing_step(requester, look, terms)


def proven_by_an_old_word(requester: Requester, look: Look, terms: Terms) -> FencingNext:
    """What was proven once stays proven: a proof outweighs the connection."""
    if look.waited > 1 and requester == "drbd":
        look = replace(look, proven=True)
    return next_fencing_step(requester, look, terms)


def promoted_without_the_peer(
    state: DrbdState, sync: InitialSync, first: bool, *, peer: str, peer_off: bool = False
) -> StorageNext:
    """A node that comes up alone goes on alone; DRBD will have the other one fenced."""
    if state.connection == "WFConnection" and state.role == "Secondary" and state.disk in {"UpToDate", "Consistent"}:
        return Promote()
    return next_storage_step(state, sync, first, peer=peer, peer_off=peer_off)


UNSAFE = {"alone", "promotion", "split brain", "lost writes", "guests twice"}
LINKS = tuple(name for name in FAULTS if "cluster" in name or "kill" in name or "power on" in name)


def counterexample(rules: dict[str, Any], broken: set[str], themes: list[tuple[str, ...]] | None) -> Schedule:
    """The first schedule that hypothesis finds to break one of these."""

    def breaks(schedule: Schedule) -> bool:
        try:
            play(schedule, **rules)
        except BrokenError as e:
            return e.rule in broken
        return False

    few = settings(
        max_examples=BOUND,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    return find(schedules(themes=themes), breaks, settings=few, random=random.Random(0))  # noqa: S311


@pytest.mark.parametrize(
    ("rules", "broken"),
    [
        pytest.param({"fencing_rule": proven_by_patience}, UNSAFE, id="proven by a timeout"),
        pytest.param({"fencing_rule": proven_by_an_order}, UNSAFE, id="proven by an order"),
        pytest.param({"fencing_rule": proven_by_silence}, UNSAFE, id="proven by the BMC's silence"),
        pytest.param({"fencing_rule": proven_by_an_old_word}, UNSAFE, id="an old proof kept"),
        pytest.param({"honest": False}, UNSAFE, id="a lying administrator"),
        pytest.param({"delays": (0.0, 0.0)}, {"both shot"}, id="no delay"),
        pytest.param({"delays": (18.0, 18.0)}, {"both shot"}, id="the same delay"),
        # The handler's exit code and the unit, within a write of the metadata: two new generations.
        pytest.param({"unit_lets_go": True}, {"split brain"}, id="let go twice"),
    ],
)
def test_a_wrong_decision_is_found_out(rules: dict[str, Any], broken: set[str]) -> None:
    counterexample(rules, broken, None)


@pytest.mark.parametrize(
    ("rules", "broken"),
    [
        pytest.param({"storage_rule": promoted_without_the_peer}, UNSAFE, id="promotion without the peer"),
        # An honest word on the node that was not the last one: nothing here can know, so the person must.
        pytest.param({"wise": False}, {"lost writes"}, id="an unwise administrator"),
    ],
)
def test_a_wrong_choice_of_the_node_is_found_out(rules: dict[str, Any], broken: set[str]) -> None:
    counterexample(rules, broken, [(*LINKS, "confirm on xen1", "confirm on xen2")])
