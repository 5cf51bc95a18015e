"""How far each machine is, by what it says, and what it may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.model import Cluster
from firstboot.runner import NAMES
from images.serving.board import STRANGERS, Board, Place
from images.serving.errors import RefusalError
from images.serving.offer import Offer
from images.serving.record import JOINED_STEPS, QUIET, Record, Stage
from images.serving.window import Window
from images.serving.wire import Report
from tests.unit.serving_rig import XEN1, machine


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    cluster: Cluster
    clock: Clock = field(default_factory=Clock)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        offer = Offer(self.cluster, Path("cluster.yaml"), "config", "secrets", {})
        window = Window(self.clock.now + 3600, self.clock)
        self.board = Board((offer,), window, b"key", self.clock, self.told.append)

    @property
    def xen1(self) -> Place:
        return next(self.board.places())

    @property
    def record(self) -> Record:
        return self.board.record(self.xen1)

    def says(self, phase: str, step: str, state: str = "running", **other: object) -> Record:
        said = {"ticket": self.board.ticket(self.xen1), "machine": XEN1["eth0"], "phase": phase, "step": step}
        self.clock.now += 1
        self.board.report(Report.model_validate({**said, "state": state, **other}))
        return self.record


@pytest.fixture
def scene(cluster: Cluster) -> Scene:
    return Scene(cluster)


def test_a_node_goes_from_seen_to_formed(scene: Scene) -> None:
    assert scene.record.stage is Stage.AWAITED
    assert scene.board.boot(machine({"boot": XEN1["eth0"]})) == ""
    assert scene.record.stage is Stage.SEEN
    scene.board.hello(machine(XEN1))
    assert scene.record.stage is Stage.CHOSEN
    assert scene.says("installer", "disk").stage is Stage.CHOSEN
    assert scene.says("installer", "write", percent=42).stage is Stage.WRITING
    assert scene.record.percent == 42
    assert scene.says("installer", "boot").stage is Stage.WRITING
    assert scene.says("installer", "boot", "done").stage is Stage.INSTALLED
    assert scene.says("firstboot", "network").stage is Stage.FIRST_BOOT
    assert scene.says("firstboot", "join", "waiting").stage is Stage.FIRST_BOOT
    assert scene.says("firstboot", "join", "done").stage is Stage.JOINED
    assert scene.says("firstboot", "drbd").stage is Stage.JOINED
    assert scene.says("firstboot", "", "done").stage is Stage.FORMED
    assert scene.board.under_way() == []


def test_the_steps_after_the_join_are_those_of_first_boot() -> None:
    assert set(NAMES[NAMES.index("join") + 1 :]) == JOINED_STEPS


def test_a_failure_shows_the_log_s_last_lines_until_the_machine_gets_on(scene: Scene) -> None:
    scene.board.hello(machine(XEN1))
    failed = scene.says("installer", "disk", "failed", text="two disks fit", log=["sda", "sdb"])
    assert (failed.failed, failed.text, failed.log) == (True, "two disks fit", ("sda", "sdb"))
    assert scene.board.under_way() == []
    again = scene.says("installer", "disk")
    assert (again.failed, again.log) == (False, ())


def test_a_machine_whose_power_was_cut_while_it_was_written_is_installed_anew(scene: Scene) -> None:
    scene.board.hello(machine(XEN1))
    scene.says("installer", "write", percent=42)
    assert scene.board.boot(machine({"boot": XEN1["eth1"]})) == ""
    assert (scene.record.stage, scene.record.percent) == (Stage.SEEN, None)


def test_a_server_that_was_started_after_the_installation_hands_out_nothing_by_itself(scene: Scene) -> None:
    scene.says("firstboot", "network")
    assert scene.board.boot(machine({"boot": XEN1["eth0"]})).startswith("xenpair/xen1 was installed")
    ticket = scene.board.hello(machine(XEN1)).ticket
    with pytest.raises(RefusalError, match="were handed out"):
        scene.board.hand_out(ticket)
    scene.board.allow("xenpair", "xen1")
    assert scene.board.hand_out(ticket) == "secrets"


def test_a_card_that_the_config_does_not_know_belongs_to_the_machine_that_said_so(scene: Scene) -> None:
    scene.board.hello(machine({**XEN1, "eth2": "52:54:00:77:77:77"}))
    scene.says("installer", "boot", "done")
    assert scene.board.boot(machine({"boot": "52:54:00:77:77:77"}))


def test_a_stranger_that_turns_out_to_be_a_node_is_no_stranger_any_more(scene: Scene) -> None:
    scene.board.boot(machine({"boot": "52:54:00:77:77:77"}))
    assert len(scene.board.strangers) == 1
    scene.board.hello(machine({**XEN1, "eth2": "52:54:00:77:77:77"}))
    assert scene.board.strangers == []


def test_a_board_s_uuid_that_many_machines_have_makes_no_two_of_them_one(scene: Scene) -> None:
    uuid = "03000200-0400-0500-0006-000700080009"
    scene.board.hello(machine(XEN1, uuid=uuid))
    scene.says("installer", "boot", "done")
    assert scene.board.boot(machine({"boot": "52:54:00:00:00:99"}, uuid=uuid)) == ""


def test_strangers_are_bounded_and_the_last_ones_are_kept(scene: Scene) -> None:
    for i in range(2 * STRANGERS):
        scene.board.boot(machine({"boot": f"52:54:00:00:01:{i:02x}"}))
    assert len(scene.board.strangers) == STRANGERS
    assert scene.board.strangers[-1].machine == machine({"boot": f"52:54:00:00:01:{2 * STRANGERS - 1:02x}"})


def test_strangers_that_say_much_are_not_heard(scene: Scene) -> None:
    answers = set()
    for i in range(100):
        with pytest.raises(RefusalError) as refused:
            scene.board.hello(machine({"eth0": f"52:54:00:00:01:{i:02x}"}))
        answers.add(refused.value.status)
    assert answers == {404, 429}


def test_a_machine_that_has_gone_quiet_is_not_waited_for(scene: Scene) -> None:
    scene.board.hello(machine(XEN1))
    assert scene.board.under_way() == [scene.xen1]
    scene.clock.now += QUIET
    assert scene.board.under_way() == []


def test_a_window_that_closes_names_who_is_under_way(scene: Scene) -> None:
    scene.clock.now += 3500
    scene.board.hello(machine(XEN1))
    scene.clock.now += 100
    assert scene.board.summary() == "the window has closed; still under way: xenpair/xen1 (chosen)"
    assert scene.board.boot(machine({"boot": "52:54:00:10:32:02"})).startswith("the window of this installation server")


def test_control_characters_reach_no_terminal(scene: Scene) -> None:
    scene.board.hello(machine(XEN1))
    scene.says("installer", "disk", "failed", text="\x1b[2Jgone\x07", log=["\x1b[31mred"])
    assert not any("\x1b" in text or "\x07" in text for text in [*scene.told, *scene.record.log])


def test_no_secret_is_in_what_a_record_or_an_offer_shows(scene: Scene) -> None:
    offer = scene.xen1.offer
    assert offer.secrets not in repr(offer).replace("secrets.yaml", "")
    assert "b'key'" not in repr(scene.board)
