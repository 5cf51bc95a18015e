"""Fencing: one flight from the loss of the peer to its end."""

from __future__ import annotations

import pytest

from firstboot import fencing
from firstboot.brief import FencingBrief
from firstboot.probe.drbd import DrbdState
from tests.unit.fencing_rig import BACK, BMC, BRIEF, GONE_ON, LOST, Stage, controller

RESUME = ["drbdadm", "resume-io", "r0"]
SWITCH_ON = ["systemctl", "restart", "--no-block", "xenpair-switch-on.service"]


def test_a_lost_peer_is_switched_off_and_on_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off")
    assert stage.fence()
    assert box.orders == ["off"]
    assert stage.started == [SWITCH_ON]
    assert stage.status().state == "proven"


def test_a_peer_that_somebody_else_switched_off_stays_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "off")
    assert stage.fence()
    assert (box.orders, stage.started) == ([], [])


def test_a_peer_that_comes_back_after_the_order_and_goes_all_the_same_is_switched_on_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = controller(monkeypatch, "on", "on", "off")
    # It is heard again just after the BMC took the order, and is lost for good when the BMC carries it out.
    stage.drbd = lambda _: BACK if box.orders == ["off"] and stage.time < 110 else LOST
    assert not stage.fence()
    assert (box.orders, stage.status().state) == (["off"], "withdrawn")
    stage.time = 115
    box.answers = ["off"]
    assert stage.fence()
    assert stage.started == [SWITCH_ON]


def test_an_order_of_long_ago_is_not_what_switched_the_peer_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off")
    stage.drbd = lambda _: BACK if box.orders == ["off"] and stage.time < 110 else LOST
    assert not stage.fence()
    stage.time += fencing.STRIKE + 1
    box.answers = ["off"]
    assert stage.fence()
    assert stage.started == []


def test_a_fenced_peer_stays_off_where_the_config_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    controller(monkeypatch, "on", "off")
    assert stage.fence(brief=FencingBrief("xen2", 0, power_on=False, bmc=BMC))
    assert stage.started == []


@pytest.mark.parametrize(
    ("answers", "reason"),
    [(("RAKP 2 HMAC is invalid",), "RAKP 2 HMAC is invalid"), (("on",), "takes the order to switch it off")],
    ids=["no answer", "lies"],
)
def test_without_a_clear_off_nothing_is_given_free(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answers: tuple[str, ...], reason: str
) -> None:
    box = controller(monkeypatch, *answers)
    assert not stage.fence()
    assert stage.status().state == "holding"
    assert reason in stage.status().reason
    assert "--confirm-peer-is-off xen2" in stage.status().reason
    # A controller that takes orders is told again and again.
    assert len(box.orders) > 5 or answers != ("on",)


def test_a_bmc_that_comes_to_its_senses_ends_the_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "no answer", "no answer", "on", "on", "off")
    assert stage.fence()
    assert box.orders == ["off"]


def test_a_peer_that_comes_back_is_not_shot(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on")
    stage.drbd = lambda time: BACK if time > 102 else LOST
    assert not stage.fence()
    assert box.orders == []
    assert stage.status().state == "withdrawn"


def test_heartbeat_takes_over_the_proof_of_drbds_flight(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off", "on")
    assert stage.fence("drbd")
    stage.time += 30
    # The machine is booting again by now: shooting it a second time would only keep it away.
    assert stage.fence("heartbeat")
    assert box.orders == ["off"]


def test_an_old_proof_is_void_in_a_new_incident(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off", "on", "on", "off")
    assert stage.fence("drbd")
    stage.time += 300
    assert stage.fence("drbd")
    assert box.orders == ["off", "off"]


def test_heartbeat_shoots_a_peer_whose_heartbeat_alone_is_dead(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off")
    # DRBD notices up to 10 s after the peer's end.
    stage.drbd = lambda time: BACK if time < 110 else LOST
    assert stage.fence("heartbeat")
    assert stage.time >= 110
    assert box.orders == ["off"]


def test_a_bmc_that_says_off_of_a_peer_that_drbd_hears_is_not_believed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller(monkeypatch, "off")
    stage.drbd = lambda _: BACK
    assert not stage.fence("heartbeat")
    assert not stage.places.fencing_proof.exists()


def test_a_pursuit_that_comes_after_the_proof_shoots_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off", "on")
    assert stage.fence("drbd")
    stage.time += 30
    # DRBD has not let go yet: the proof of this incident is used, though it is older than the pursuit.
    assert stage.fence("pursuit")
    fencing.forget(stage.places)
    stage.drbd = lambda _: GONE_ON
    assert not stage.fence("pursuit")
    assert box.orders == ["off"]
    assert stage.status().state == "proven"


@pytest.mark.parametrize("requester", ["drbd", "pursuit", "heartbeat"])
def test_the_flight_itself_lets_go_and_nobody_else_does_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, requester: str
) -> None:
    """Two at the same moment are two generations of data, of which the peer knows neither."""
    controller(monkeypatch, "off")

    def run(argv: list[str]) -> None:
        assert stage.places.fencing_proof.exists()
        assert fencing.in_flight(stage.places)
        stage.ran.append(argv)
        stage.drbd = lambda _: GONE_ON

    monkeypatch.setattr(fencing, "run", run)
    assert stage.fence(requester)
    # Whoever waited for that flight finds nothing frozen.
    assert stage.fence("drbd")
    assert stage.fence("pursuit")
    assert stage.fence("heartbeat")
    assert stage.ran == [RESUME]


def test_a_side_without_data_of_its_own_is_not_let_go(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was Primary as the target of a resync; its I/O would go on into errors."""
    controller(monkeypatch, "off")
    stage.drbd = lambda _: DrbdState("WFConnection", "Primary", "Unknown", "Inconsistent", "DUnknown", suspended=True)
    assert not stage.fence("pursuit")
    assert stage.fence("heartbeat")
    assert stage.ran == []


def test_a_peer_that_is_heard_just_after_the_proof_is_left_to_drbd(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller(monkeypatch, "off")
    looks = iter([LOST, LOST, BACK])
    stage.drbd = lambda _: next(looks, BACK)
    assert stage.fence()
    assert stage.ran == []


def test_a_split_brain_stays_frozen_whatever_is_proven(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on")
    stage.places.split_brain.parent.mkdir(parents=True)
    stage.places.split_brain.write_text("{}")
    assert not stage.fence("drbd")
    assert not stage.fence("pursuit")
    assert box.orders == []
    # heartbeat may take over the guests of a peer that is off; they wait for the administrator's word with the rest.
    box.answers = ["off"]
    assert stage.fence("heartbeat")
    assert stage.ran == []


def test_a_promotion_that_loses_the_peer_shoots_nobody(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer was the source of the resync that has just ended here; it goes on alone by right."""
    box = controller(monkeypatch, "on")
    stage.drbd = lambda _: DrbdState("WFConnection", "Secondary", "Unknown", "UpToDate", "DUnknown")
    assert not stage.fence("drbd")
    assert box.orders == []


def test_the_peer_is_switched_on_once_drbd_has_let_go(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "no answer", "off", "on")
    stage.drbd = lambda time: LOST if time < 110 else DrbdState("WFConnection", "Primary")
    fencing.switch_on(BRIEF, stage.places, pause=stage.pause)
    assert stage.time >= 110
    assert set(box.orders) == {"on"}
