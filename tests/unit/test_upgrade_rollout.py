"""`invoke upgrade`: in which order nodes are asked and changed, and where it stops. The nodes are fakes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from config.changes import Change
from config.loader import load
from config.upgrade import NodePlan, Outcome
from images.errors import UpgradeError
from images.progress import Progress
from images.upgrading import rollout
from images.upgrading.offer import Offer
from images.upgrading.remote import Health, Remote
from tests.unit.conftest import EXAMPLE

OFFER = Offer(Path("/out/package.deb"), load(EXAMPLE))
HEALTHY, SICK = Health("healthy", "all is well"), Health("degraded", "heartbeat alone")
TODO = {"installed": "1", "offered": "2"}
DONE = {"installed": "2", "offered": "2"}


@dataclass
class Pair:
    """What both fakes were asked, in order, and how they are: healths is used up from its front, but for its last."""

    plans: dict[str, dict[str, Any]]
    told: list[str] = field(default_factory=list)
    healths: dict[str, list[Health]] = field(default_factory=dict)
    reboot: str = ""
    fails: str = ""

    def __iter__(self) -> Any:
        return iter([FakeRemote(name, f"root@{name}", pair=self) for name in ("xen1", "xen2")])


@dataclass(frozen=True)
class FakeRemote(Remote):
    pair: Pair = field(default_factory=lambda: Pair({}))

    def health(self) -> Health:
        left = self.pair.healths.get(self.name, [HEALTHY])
        return left.pop(0) if len(left) > 1 else left[0]

    def send(self, offer: Offer) -> None:  # noqa: ARG002
        self.pair.told.append(f"{self.name} send")

    def plan(self) -> NodePlan:
        return NodePlan.model_validate({"node": self.name, **self.pair.plans[self.name]})

    def upgrade(self) -> Outcome:
        self.pair.told.append(f"{self.name} upgrade")
        if self.pair.fails == self.name:
            raise UpgradeError("dpkg: error")
        done = f"{self.name} reboot" in self.pair.told
        return Outcome(node=self.name, reboot="" if done else self.pair.reboot)

    def reboot(self, limit: float) -> None:  # noqa: ARG002
        self.pair.told.append(f"{self.name} reboot")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes only where somebody sleeps."""
    now = [0.0]
    monkeypatch.setattr("images.upgrading.rollout.time.monotonic", lambda: now[0])
    monkeypatch.setattr("images.upgrading.rollout.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def roll(pair: Pair, answer: str | None = None) -> str:
    """What was shown."""
    shown = io.StringIO()
    ask = (lambda _: answer) if answer is not None else None
    nodes: Sequence[Remote] = list(pair)
    rollout.upgrade(OFFER, nodes, ask, Progress(Console(file=shown, width=200)))
    return shown.getvalue()


def both(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"xen1": plan, "xen2": plan}


def changed(pair: Pair) -> list[str]:
    return [line for line in pair.told if not line.endswith("send")]


def test_one_node_after_the_other_once_yes_is_typed() -> None:
    pair = Pair(both(TODO))
    assert "both nodes are upgraded, and healthy" in roll(pair, "yes")
    assert pair.told == ["xen1 send", "xen2 send", "xen1 upgrade", "xen2 upgrade"]


def test_what_will_change_is_shown_before_it_does() -> None:
    change = Change(path="dom0.memory", old="2G", new="3G", effect="reboot", text="Xen gives dom0 its memory at boot")
    plan = {**TODO, "changes": (change,), "files": ("etc/default/grub.d/00-xenpair.cfg",), "reboot": "dom0's memory"}
    shown = roll(Pair(both(plan)))
    assert "package   1 -> 2" in shown
    assert "dom0.memory: 2G -> 3G (reboot: Xen gives dom0 its memory at boot)" in shown
    assert "reboot    dom0's memory; its guests are on the peer meanwhile" in shown
    assert shown.index("dom0.memory") < shown.index("xen1: upgrading")


@pytest.mark.parametrize("answer", ["", "no", "y"])
def test_without_a_yes_nothing_changes(answer: str) -> None:
    pair = Pair(both(TODO))
    with pytest.raises(UpgradeError, match="not confirmed"):
        roll(pair, answer)
    assert changed(pair) == []


@pytest.mark.parametrize("name", ["xen1", "xen2"])
def test_a_pair_that_is_not_healthy_is_not_even_sent_to(name: str) -> None:
    pair = Pair(both(TODO), healths={name: [SICK]})
    with pytest.raises(UpgradeError, match="not healthy") as e:
        roll(pair, "yes")
    assert f"{name}: degraded: heartbeat alone" in str(e.value)
    assert pair.told == []


def test_what_one_node_refuses_is_done_on_neither() -> None:
    pair = Pair({"xen1": TODO, "xen2": {**TODO, "refused": ("storage.volume_group: data -> disks",)}})
    with pytest.raises(UpgradeError, match="refused"):
        roll(pair, "yes")
    assert changed(pair) == []


def test_a_node_that_is_as_it_should_be_is_passed_over_so_a_second_call_goes_on() -> None:
    pair = Pair({"xen1": DONE, "xen2": TODO})
    assert "xen1: nothing to do" in roll(pair)
    assert changed(pair) == ["xen2 upgrade"]


def test_what_was_begun_is_gone_on_with_though_nothing_differs() -> None:
    pair = Pair({"xen1": {**DONE, "unfinished": True}, "xen2": DONE})
    assert "goes on where an earlier upgrade stopped" in roll(pair)
    assert changed(pair) == ["xen1 upgrade"]


def test_with_nothing_to_do_nobody_is_asked() -> None:
    pair = Pair(both(DONE))
    roll(pair, "no")
    assert changed(pair) == []


def test_a_node_that_needs_it_is_rebooted_and_asked_once_more() -> None:
    pair = Pair(both(TODO), reboot="dom0's memory")
    roll(pair)
    assert changed(pair) == [f"{n} {what}" for n in ("xen1", "xen2") for what in ("upgrade", "reboot", "upgrade")]


def test_a_node_that_heals_after_a_while_is_waited_for() -> None:
    pair = Pair(both(TODO), healths={"xen1": [HEALTHY, SICK, SICK, HEALTHY]})
    roll(pair)
    assert changed(pair) == ["xen1 upgrade", "xen2 upgrade"]


def test_a_first_node_that_does_not_become_healthy_stops_it() -> None:
    pair = Pair(both(TODO), healths={"xen1": [HEALTHY, SICK]})
    with pytest.raises(UpgradeError) as e:
        roll(pair)
    assert changed(pair) == ["xen1 upgrade"]
    for word in ("stopped at xen1; xen2 was not touched", "heartbeat alone", "ssh root@xen1 xenpair upgrade --back"):
        assert word in str(e.value)


def test_a_peer_that_the_upgrade_has_made_sick_stops_it_too() -> None:
    pair = Pair(both(TODO), healths={"xen2": [HEALTHY, SICK]})
    with pytest.raises(UpgradeError, match="xen2: degraded"):
        roll(pair)
    assert changed(pair) == ["xen1 upgrade"]


def test_a_node_that_fails_stops_it() -> None:
    pair = Pair(both(TODO), fails="xen1")
    with pytest.raises(UpgradeError, match="dpkg: error"):
        roll(pair)
    assert changed(pair) == ["xen1 upgrade"]


def test_hosts_in_the_wrong_order_are_noticed() -> None:
    pair = Pair({"xen1": {**TODO, "node": "xen2"}, "xen2": TODO})
    with pytest.raises(UpgradeError, match="root@xen1 is xen2, and not xen1"):
        roll(pair)
    assert changed(pair) == []
