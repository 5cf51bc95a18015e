"""Fencing: what is decided, and one flight from the loss of the peer to its end, with a BMC and a DRBD of our own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from config.door import Output
from firstboot import bmc, fencing
from firstboot.brief import BmcBrief, FencingBrief, read_fencing_brief
from firstboot.errors import BmcError, FencingError
from firstboot.places import Places
from firstboot.plan.fencing import GRACE, INSIST, Hold, Look, PowerOff, Proven, Terms, Withdraw, next_fencing_step
from firstboot.probe.drbd import DrbdState

FIRST = Terms("xen2", by_bmc=True, delay=0)
SECOND = Terms("xen1", by_bmc=True, delay=18)
LOST = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "DUnknown", suspended=True)
BACK = DrbdState("Connected", "Primary", "Secondary", "UpToDate", "UpToDate")
GONE_ON = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated")
BMC = BmcBrief("ipmi", "192.168.132.242", 623, "xenpair", "hidden-password")
BRIEF = FencingBrief("xen2", 0, power_on=True, bmc=BMC)


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


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(Places(tmp_path))
    monkeypatch.setattr(fencing, "now", lambda: stage.time)
    monkeypatch.setattr(fencing, "start", stage.started.append)
    monkeypatch.setattr(fencing, "run", stage.ran.append)
    monkeypatch.setattr("firstboot.observe.drbd", lambda: stage.drbd(stage.time))
    return stage


def controller(monkeypatch: pytest.MonkeyPatch, *answers: str) -> Controller:
    found = Controller(list(answers))
    monkeypatch.setattr(fencing, "bmc_of", lambda brief: found if brief else bmc.NoBmc())
    return found


def test_a_lost_peer_is_switched_off_and_on_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "on", "on", "off")
    assert stage.fence()
    assert box.orders == ["off"]
    assert stage.started == [["/usr/bin/xenpair", "switch-on-peer"]]
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
    assert stage.started == [["/usr/bin/xenpair", "switch-on-peer"]]


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


RESUME = ["drbdadm", "resume-io", "r0"]


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


NO_BMC = FencingBrief("xen2", 0, power_on=True, bmc=None)


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


def test_the_peer_is_switched_on_once_drbd_has_let_go(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    box = controller(monkeypatch, "no answer", "off", "on")
    stage.drbd = lambda time: LOST if time < 110 else DrbdState("WFConnection", "Primary")
    fencing.switch_on(BRIEF, stage.places, pause=stage.pause)
    assert stage.time >= 110
    assert set(box.orders) == {"on"}


def test_the_password_goes_through_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []

    def run(argv: list[str], *, env: dict[str, str], **_: object) -> Output:
        seen.append((argv, env))
        return Output(0, "Chassis Power is on\n", "")

    monkeypatch.setattr(bmc, "run", run)
    assert bmc.bmc_of(BMC).power() == "on"
    ((argv, env),) = seen
    assert "hidden-password" not in " ".join(argv)
    assert env == {"IPMI_PASSWORD": "hidden-password"}
    assert "hidden-password" not in repr(BRIEF)


@pytest.mark.parametrize("text", ["", "Chassis Power is ", "Chassis Power is unknown", "Error\nChassis Power is off x"])
def test_anything_but_a_clear_answer_is_no_answer(text: str) -> None:
    with pytest.raises(BmcError):
        bmc.parse_power(text)


def test_the_brief_survives_the_disk_and_is_roots_alone(tmp_path: Path) -> None:
    path = tmp_path / "fencing.json"
    BRIEF.write(path)
    assert read_fencing_brief(path) == BRIEF
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["bmc"]["password"] == "hidden-password"
    assert read_fencing_brief(tmp_path / "none") is None
