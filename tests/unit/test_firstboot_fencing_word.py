"""Fencing: the administrator's word that the peer is off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.door import Output
from firstboot import fencing
from firstboot.errors import FencingError
from firstboot.probe.drbd import DrbdState
from tests.unit.fencing_rig import BACK, BRIEF, LOST, NO_BMC, Stage, controller


def test_without_a_bmc_the_administrators_word_counts_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    controller(monkeypatch, "on")
    assert not stage.fence(brief=NO_BMC)
    monkeypatch.setattr(fencing, "run", lambda *_, **__: Output(0, "", ""))
    fencing.confirm(NO_BMC, stage.places, "xen2", lambda _: "xen2 is off")
    assert stage.fence(brief=NO_BMC)
    stage.time += 300
    assert not stage.fence(brief=NO_BMC)


def test_the_word_dies_when_the_peer_is_heard(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    controller(monkeypatch, "on")
    monkeypatch.setattr(fencing, "run", lambda *_, **__: Output(0, "", ""))
    fencing.confirm(NO_BMC, stage.places, "xen2", lambda _: "xen2 is off\n")
    stage.drbd = lambda _: BACK
    assert not stage.fence(brief=NO_BMC)
    stage.drbd = lambda _: LOST
    assert not stage.fence(brief=NO_BMC)


@pytest.mark.parametrize(
    ("state", "power", "said", "message"),
    [
        (LOST, "on", ("xen2", "xen2 is off"), "says that it has power"),
        (BACK, "no answer", ("xen2", "xen2 is off"), "DRBD is connected to it"),
        (LOST, "no answer", ("xen1", "xen1 is off"), "the peer of this node is xen2"),
        (LOST, "no answer", ("xen2", "yes"), "was to be typed"),
        (DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated"), "off", ("xen2", ""), "nothing waits"),
        *(
            (
                DrbdState("WFConnection", "Secondary", "Unknown", disk, "DUnknown"),
                "off",
                ("xen2", ""),
                f"disk is {disk}",
            )
            for disk in ("Inconsistent", "Outdated", "Diskless", "Failed")
        ),
        # It was Primary as the target of a resync: its I/O is frozen for want of data.
        (replace(LOST, disk="Inconsistent"), "off", ("xen2", "xen2 is off"), "cannot go on without xen2"),
    ],
)
def test_a_word_that_cannot_be_true_is_refused(  # noqa: PLR0917  two fixtures and a table
    stage: Stage, monkeypatch: pytest.MonkeyPatch, state: DrbdState, power: str, said: tuple[str, str], message: str
) -> None:
    node, typed = said
    controller(monkeypatch, power)
    stage.drbd = lambda _: state
    with pytest.raises(FencingError, match=message):
        fencing.confirm(BRIEF, stage.places, node, lambda _: typed)
    assert not stage.places.confirmation.exists()


def test_after_a_split_brain_the_word_is_no_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    controller(monkeypatch, "no answer")
    stage.places.split_brain.parent.mkdir(parents=True)
    stage.places.split_brain.write_text("{}")
    with pytest.raises(FencingError, match="has gone on alone as well"):
        fencing.confirm(BRIEF, stage.places, "xen2", lambda _: "xen2 is off")
