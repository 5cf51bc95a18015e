"""Fencing: what is decided at each moment of a flight."""

from __future__ import annotations

import itertools

import pytest

from firstboot.plan.fencing import GRACE, INSIST, Hold, Look, PowerOff, Proven, Terms, Withdraw, next_fencing_step

FIRST = Terms("xen2", by_bmc=True, delay=0)
SECOND = Terms("xen1", by_bmc=True, delay=18)


def looks() -> list[Look]:
    return [
        Look(waited, connected, confirmed, frozen, proven, power, problem, ordered, ordered is not None)  # type: ignore[arg-type]
        for waited, connected, confirmed, frozen, proven, power, problem, ordered in itertools.product(
            (0.0, GRACE, GRACE + 18, 1000.0),
            (True, False),
            (True, False),
            (True, False),
            (True, False),
            ("on", "off", None),
            ("", "no answer"),
            (None, 0.0, INSIST, 60.0),
        )
    ]


@pytest.mark.parametrize("terms", [FIRST, SECOND, Terms("xen2", by_bmc=False, delay=0)])
@pytest.mark.parametrize("requester", ["drbd", "pursuit", "heartbeat"])
def test_only_the_bmcs_off_or_a_persons_word_proves_anything(requester: str, terms: Terms) -> None:
    for look in looks():
        step = next_fencing_step(requester, look, terms)  # type: ignore[arg-type]
        if isinstance(step, Proven):
            assert not look.connected
            assert (terms.by_bmc and look.power == "off") or look.confirmed or look.proven
        if isinstance(step, PowerOff):
            assert terms.by_bmc
            assert look.power == "on"
            assert look.waited >= GRACE + terms.delay
        if requester != "heartbeat" and look.connected:
            assert isinstance(step, Withdraw)
        if requester != "heartbeat" and not look.frozen:
            assert isinstance(step, Withdraw | Proven)
            assert isinstance(step, Withdraw) or look.proven or look.confirmed


def test_the_second_node_lets_the_first_one_shoot_first() -> None:
    look = Look(GRACE, connected=False, confirmed=False, power="on")
    assert next_fencing_step("drbd", look, FIRST) == PowerOff()
    assert isinstance(next_fencing_step("drbd", look, SECOND), Hold)
