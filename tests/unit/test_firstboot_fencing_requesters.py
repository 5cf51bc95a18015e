"""Who asks for fencing: DRBD's handler, heartbeat's STONITH plugin, the unit; and what status says when nobody does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config import door
from config.errors import CommandError
from firstboot import command, fencing, status
from firstboot.brief import Brief
from firstboot.places import Places
from tests.unit.fencing_rig import LOST, NO_BMC

STARVED = replace(LOST, disk="Inconsistent")
START = ["systemctl", "start", "--no-block", "xenpair-fencing.service"]

PLUGIN = Path(__file__).resolve().parents[2] / "templates/stonith/xenpair"


def plugin(tmp_path: Path, code: int, *request: str) -> tuple[int, str, str]:
    """Exit code and output of the plugin, and what it called, with an xenpair that ends with that code."""
    called = tmp_path / "called"
    xenpair = tmp_path / "xenpair"
    xenpair.write_text(f'#!/bin/sh\necho "$@" > {called}\nexit {code}\n')
    xenpair.chmod(0o755)
    script = PLUGIN.read_text().replace("/usr/bin/xenpair", str(xenpair))
    done = door.run(["/bin/sh", "-c", script, "xenpair", *request], env={"peer": "xen2"}, check=False)
    return done.returncode, done.stdout, called.read_text() if called.exists() else ""


@pytest.mark.usefixtures("real_programs")
def test_the_plugin_says_done_only_when_the_peer_is_proven_off(tmp_path: Path) -> None:
    assert plugin(tmp_path, 7, "reset", "xen2") == (0, "", "fence-peer --heartbeat xen2\n")
    for code in (0, 1, 2, 143):
        assert plugin(tmp_path, code, "reset", "xen2")[0] == 1


@pytest.mark.usefixtures("real_programs")
def test_the_plugin_answers_heartbeats_first_questions_by_itself(tmp_path: Path) -> None:
    assert plugin(tmp_path, 1, "gethosts") == (0, "xen2\n", "")
    assert plugin(tmp_path, 1, "getconfignames") == (0, "peer\n", "")
    for request in ("status", "getinfo-devid", "getinfo-devname", "getinfo-devdescr", "getinfo-devurl", "getinfo-xml"):
        assert plugin(tmp_path, 1, request)[0] == 0
    assert plugin(tmp_path, 0, "on", "xen2")[0] == 1


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A node whose peer has no BMC, with the doors to the machine closed."""
    places = Places(tmp_path)
    Brief("xen1", "xen2", True, "r0", "data").write(places.brief)
    NO_BMC.write(places.fencing)
    monkeypatch.setattr(command, "Places", lambda: places)
    monkeypatch.setattr(command, "log_to_journal", lambda: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return places


def flights(monkeypatch: pytest.MonkeyPatch, *, proven: bool) -> list[object]:
    """What is started and flown, in its order; every flight ends like that."""
    done: list[object] = []

    def fence(requester: str, *_: object, **__: object) -> bool:
        done.append(requester)
        return proven

    monkeypatch.setattr(fencing, "fence", fence)
    monkeypatch.setattr(fencing, "start", done.append)
    return done


@pytest.mark.usefixtures("node")
def test_a_handler_that_ends_without_proof_starts_the_pursuit_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    done = flights(monkeypatch, proven=False)
    assert command.main(["fence-peer"]) == 1
    assert done == [START, "drbd", START]


@pytest.mark.usefixtures("node")
def test_a_handler_fences_where_the_pursuit_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    flights(monkeypatch, proven=True)

    def refuse(argv: list[str]) -> None:
        raise CommandError(argv, None, "", what="cannot be started")

    monkeypatch.setattr(fencing, "start", refuse)
    assert command.main(["fence-peer"]) == 7


@pytest.mark.usefixtures("node")
def test_heartbeats_request_starts_the_pursuit_where_it_ends_without_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    done = flights(monkeypatch, proven=True)
    assert command.main(["fence-peer", "--heartbeat", "xen2"]) == 7
    assert command.main(["fence-peer", "--heartbeat", "xen3"]) == 1
    assert done == ["heartbeat"]
    done = flights(monkeypatch, proven=False)
    assert command.main(["fence-peer", "--heartbeat", "xen2"]) == 1
    assert done == ["heartbeat", START]


@pytest.mark.usefixtures("node")
def test_the_pursuit_ends_in_order_whatever_comes_of_its_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    for proven in (True, False):
        done = flights(monkeypatch, proven=proven)
        assert command.main(["fence-peer", "--until-proven"]) == 0
        assert done == ["pursuit"]


def test_status_says_when_nobody_asks(node: Places) -> None:
    alone = status.fencing_status(LOST, node)
    assert alone.state == "unready"
    assert "nobody asks" in alone.reason
    assert status.fencing_status(STARVED, node).state == "by-hand"
    with fencing._single_flight(node):
        assert status.fencing_status(LOST, node).state == "by-hand"
