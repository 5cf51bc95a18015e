"""A dead peer is replaced: what the new config may say, and what the survivor does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from config.door import Output
from config.loader import load
from config.machine import Machine
from config.model import Cluster
from firstboot import replacement
from firstboot.errors import ReplacementError
from firstboot.journal import Journal
from firstboot.node import this_node
from firstboot.places import Places
from firstboot.plan.replacement import objection
from firstboot.probe.drbd import DrbdState
from firstboot.report import Progress
from firstboot.status import firstboot_status
from firstboot.steps import Work
from firstboot.steps.join import Join
from tests.unit import fake_node
from tests.unit.conftest import EXAMPLE
from tests.unit.fake_node import FakeNode, FakePeer, install

ALONE = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated")
TEXT = EXAMPLE.read_text()
OLD, NEW = "52:54:00:10:32:02", "52:54:00:99:32:02"


def other(tmp_path: Path, old: str, new: str) -> Path:
    assert old in TEXT
    path = tmp_path / "new.yaml"
    path.write_text(TEXT.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (OLD, NEW, None),
        ("", "", None),
        ("192.168.132.242", "192.168.132.243", None),
        ("52:54:00:10:32:01", "52:54:00:99:32:01", "of xen1 differs: only match, nics"),
        ("10.10.32.2/24", "10.10.32.3/24", "addresses of xen2 differs"),
        ("name: xen2", "name: xen3", "other names"),
        ("domain: example.org", "domain: example.com", "cluster differs"),
    ],
)
def test_only_the_dead_nodes_hardware_may_change(tmp_path: Path, old: str, new: str, reason: str | None) -> None:
    found = objection(load(EXAMPLE).cluster, load(other(tmp_path, old, new)).cluster, "xen2")
    assert (found is None) if reason is None else (found is not None and reason in found)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A formed xen1 whose peer is gone."""
    places = Places(tmp_path / "root")
    for path, text in ((places.config, TEXT), (places.join, "{}"), (places.formed, "xen1\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places.config.chmod(0o600)
    places.secrets.write_text("authkeys: " + "a" * 64 + "\ndrbd: " + "b" * 40 + "\njoin: " + "c" * 64 + "\n")
    places.secrets.chmod(0o600)
    nics = {f"eth{i}": mac for i, mac in enumerate(vars(load(EXAMPLE).cluster.nodes[0].nics).values())}
    monkeypatch.setattr("firstboot.observe.machine", lambda: Machine(nics, "", ""))
    monkeypatch.setattr("firstboot.observe.drbd", lambda: ALONE)
    assert this_node(places).me.name == "xen1"
    return places


def keep(places: Places, progress: Progress) -> None:
    """What first boot says at that moment."""
    places.progress.parent.mkdir(parents=True, exist_ok=True)
    places.progress.write_text(json.dumps(asdict(progress)))


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was run."""
    done: list[list[str]] = []

    def run(argv: list[str], **_: object) -> Output:
        done.append(argv)
        return Output(0, "", "")

    monkeypatch.setattr(replacement, "run", run)
    return done


def test_the_survivor_takes_part_in_a_join_again(places: Places, units: list[list[str]], tmp_path: Path) -> None:
    replacement.replace_peer(places, "xen2", other(tmp_path, OLD, NEW))
    assert NEW in places.config.read_text()
    assert places.config.stat().st_mode & 0o777 == 0o600
    assert not places.join.exists()
    assert not places.formed.exists()
    assert places.awaited.read_text() == "xen2\n"
    assert units == [["systemctl", "restart", "--no-block", "xenpair-firstboot.service"]]
    # Interrupted after any of it, it is typed again.
    replacement.replace_peer(places, "xen2", tmp_path / "new.yaml")


@pytest.mark.parametrize("before", [None, Progress("done"), Progress("running", "network")])
def test_the_survivor_says_that_it_awaits_a_new_machine(
    places: Places, units: list[list[str]], before: Progress | None
) -> None:
    if before is not None:
        keep(places, before)
    replacement.replace_peer(places, "xen2", None)
    now = firstboot_status(places)
    assert (now.state, now.step) == ("waiting", "join")
    assert now.error.startswith("a new xen2: ")


def test_what_stops_the_survivor_is_said_before_what_it_awaits(places: Places, units: list[list[str]]) -> None:
    replacement.replace_peer(places, "xen2", None)
    for progress in (Progress("failed", "access", "no key"), Progress("waiting", "join", "join refused: a stranger")):
        keep(places, progress)
        now = firstboot_status(places)
        assert (now.state, now.step, now.error) == (progress.state, progress.step, progress.error)


def test_the_join_says_what_it_awaits_until_the_new_machine_is_there(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FakeNode(tmp_path / "node", cluster, fake_node.EXAMPLE)
    install(node, monkeypatch)
    node.first_boot()
    node.places.join.unlink()
    node.places.awaited.write_text("xen2\n")
    peers: list[FakePeer] = []
    said: list[str] = []

    class LatePeer(FakePeer):
        def start(self) -> None:
            peers.append(self)

    def waiting(reason: str) -> None:
        said.append(reason)
        FakePeer.start(peers[0])

    monkeypatch.setattr("firstboot.steps.join.JoinAgent", LatePeer)
    Join().apply(Work(this_node(node.places), Journal(node.places.journal), waiting))
    assert [reason.partition(":")[0] for reason in said] == ["a new xen2"]
    assert node.places.join.exists()
    assert not node.places.awaited.exists()


def test_nothing_is_awaited_once_the_new_machine_has_joined(places: Places, units: list[list[str]]) -> None:
    replacement.replace_peer(places, "xen2", None)
    places.join.write_text("{}")
    keep(places, Progress("running", "drbd"))
    assert firstboot_status(places).state == "running"
    places.formed.write_text("xen1\n")
    assert firstboot_status(places).state == "done"


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("xen1", ALONE, "the peer of xen1 is xen2"),
        ("xen2", DrbdState("Connected", "Primary", "Secondary", "UpToDate", "UpToDate"), "is not gone"),
        ("xen2", DrbdState("WFConnection", "Secondary", "Unknown", "Consistent", "DUnknown"), "does not carry"),
        ("xen2", DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "DUnknown", suspended=True), "is frozen"),
    ],
)
def test_nothing_changes_where_the_survivor_is_none(  # noqa: PLR0917  three fixtures and a table
    places: Places, units: list[list[str]], monkeypatch: pytest.MonkeyPatch, name: str, state: DrbdState, message: str
) -> None:
    monkeypatch.setattr("firstboot.observe.drbd", lambda: state)
    with pytest.raises(ReplacementError, match=message):
        replacement.replace_peer(places, name, None)
    assert places.join.exists()
    assert places.formed.exists()
    assert not places.awaited.exists()
    assert units == []


def test_a_config_that_changes_more_is_refused(places: Places, units: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(ReplacementError, match=r"new.yaml: storage differs"):
        replacement.replace_peer(places, "xen2", other(tmp_path, "data-*", "disk-*"))
    assert places.config.read_text() == TEXT
    assert places.formed.exists()
    assert units == []
