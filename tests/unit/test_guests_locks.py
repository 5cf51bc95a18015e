"""Locks on one node and on both: with real flock(2), real processes, and a pipe in place of SSH."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from firstboot.brief import Brief
from firstboot.errors import LockedError, NodeError, PeerError
from firstboot.guests import locks
from firstboot.guests.locks import Owner, Patience, take
from firstboot.guests.pair import Pair
from firstboot.guests.peer import PeerSession
from firstboot.places import Places
from tests.unit import guests_rig as rig
from tests.unit.guests_rig import FROZEN, SURVIVOR, WHOLE, XEN1, XEN2

ME = Owner("xen1", 4711, "guest resize web01")
NAME = "guest/web01"


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rig.drbd_is(monkeypatch, WHOLE)


def is_free(directory: Path, brief: Brief, name: str = NAME) -> bool:
    try:
        take(rig.places(directory, brief), name, ME).release()
    except LockedError:
        return False
    return True


def nobody(_: Brief) -> PeerSession:
    raise AssertionError("the peer was asked")


# One node's half.


def test_a_taken_half_says_who_has_it_doing_what_and_since_when(tmp_path: Path) -> None:
    half = take(Places(tmp_path), NAME, ME)
    with pytest.raises(LockedError, match=r"held by xen1 since 20\d\d-.*: guest resize web01 \(process 4711\)"):
        take(Places(tmp_path), NAME, Owner("xen2", 1, "guest delete web01"))
    half.release()
    half.release()
    take(Places(tmp_path), NAME, ME).release()


def test_halves_of_other_names_do_not_touch_each_other(tmp_path: Path) -> None:
    halves = [take(Places(tmp_path), name, ME) for name in (NAME, "guest/db01", "volumes")]
    assert len({half.name for half in halves}) == 3
    for half in halves:
        half.release()


@pytest.mark.parametrize("name", ["", "..", "../etc/passwd", "guest/../x", "a/b/c", "/etc/passwd", "x\n", "guest/"])
def test_a_name_that_leads_elsewhere_is_no_lock(tmp_path: Path, name: str) -> None:
    with pytest.raises(NodeError, match="no name of a lock"):
        take(Places(tmp_path), name, ME)


def test_a_half_ends_with_its_process_and_not_with_a_program_that_it_started(
    real_programs: None, tmp_path: Path
) -> None:
    body = """
import subprocess
half = take(places, "guest/web01", Owner("xen1", 1, "x"))
child = subprocess.Popen(["sleep", "1000"], close_fds=False)
print(child.pid, flush=True)
time.sleep(1000)
"""
    process = rig.caller(tmp_path, XEN1, body)
    assert process.stdout is not None
    child = process.stdout.readline().strip()
    try:
        assert not is_free(tmp_path, XEN1)
        process.kill()
        process.wait()
        assert Path("/proc", child).exists()
        assert is_free(tmp_path, XEN1)
    finally:
        subprocess.run(["kill", child], check=True)


# Waiting.


def test_who_waits_is_told_once_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "SAY_AFTER", 0.2)
    half = take(Places(tmp_path), NAME, ME)
    told: list[str] = []
    with pytest.raises(LockedError):
        Patience(0.8, told.append).until(lambda: take(Places(tmp_path), NAME, ME))
    half.release()
    assert len(told) == 1
    assert "guest resize web01" in told[0]


def test_who_waits_gets_it_as_soon_as_it_is_free(tmp_path: Path) -> None:
    half = take(Places(tmp_path), NAME, ME)
    timer = threading.Timer(0.3, half.release)
    timer.start()
    Patience(30, lambda _: None).until(lambda: take(Places(tmp_path), NAME, ME)).release()
    timer.join()


# Both halves.


@pytest.mark.parametrize("brief", [XEN1, XEN2])
def test_both_halves_are_held_and_let_go(real_programs: None, whole: None, tmp_path: Path, brief: Brief) -> None:
    with Pair(brief, rig.places(tmp_path, brief), connect=rig.connect(tmp_path)) as pair:
        with pair.lock(NAME, what="test", wait=10) as held:
            held.check()
            assert not is_free(tmp_path, XEN1)
            assert not is_free(tmp_path, XEN2)
            with pytest.raises(LockedError, match=f"held by {brief.node} since .*: test"):
                take(rig.places(tmp_path, rig.other(brief)), NAME, ME)
        assert is_free(tmp_path, XEN1)
        assert is_free(tmp_path, XEN2)


def test_of_a_lock_whose_second_half_is_taken_nothing_is_kept(real_programs: None, whole: None, tmp_path: Path) -> None:
    taken = take(rig.places(tmp_path, XEN2), NAME, Owner("xen2", 7, "guest stop web01"))
    with Pair(XEN1, rig.places(tmp_path, XEN1), connect=rig.connect(tmp_path)) as pair:
        with (
            pytest.raises(LockedError, match=r"xen2: guest/web01 is held by xen2 .*guest stop web01"),
            pair.lock(NAME, what="test", wait=0.3),
        ):
            pass
        assert is_free(tmp_path, XEN1)
        taken.release()
        with pair.lock(NAME, what="test", wait=0):
            assert not is_free(tmp_path, XEN2)


@pytest.mark.parametrize("brief", [XEN1, XEN2])
def test_without_patience_the_peer_is_not_asked_where_this_half_is_taken(
    whole: None, tmp_path: Path, brief: Brief
) -> None:
    taken = take(rig.places(tmp_path, brief), NAME, ME)
    pair = Pair(brief, rig.places(tmp_path, brief), connect=nobody)
    with pytest.raises(LockedError), pair.lock(NAME, what="test", wait=0):
        pass
    taken.release()


def test_alone_after_a_proven_loss_this_half_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.drbd_is(monkeypatch, SURVIVOR)
    pair = Pair(XEN2, rig.places(tmp_path, XEN2), connect=nobody)
    with pair.lock(NAME, what="test", wait=10) as held:
        assert pair.peer() is None
        held.check()
        pair.verify()
        assert not is_free(tmp_path, XEN2)
        rig.drbd_is(monkeypatch, WHOLE)
        with pytest.raises(PeerError, match="xen1 came back while guest/web01 was held here alone"):
            pair.verify()
    pair.verify()


def test_a_peer_that_came_back_while_this_half_was_waited_for_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.drbd_is(monkeypatch, SURVIVOR)
    half = take(rig.places(tmp_path, XEN1), NAME, ME)

    def back() -> None:
        rig.drbd_is(monkeypatch, WHOLE)
        half.release()

    timer = threading.Timer(0.2, back)
    timer.start()
    pair = Pair(XEN1, rig.places(tmp_path, XEN1), connect=nobody)
    with pytest.raises(PeerError, match="came back"), pair.lock(NAME, what="test", wait=30):
        pass
    timer.join()
    assert is_free(tmp_path, XEN1)


def test_where_nothing_is_known_of_the_peer_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.drbd_is(monkeypatch, FROZEN)
    pair = Pair(XEN1, rig.places(tmp_path, XEN1), connect=nobody)
    with pytest.raises(
        PeerError, match=r"nothing is known of xen2: DRBD is WFConnection, Primary/Unknown, .*I/O frozen"
    ):
        pair.peer()
    with pytest.raises(PeerError), pair.lock(NAME, what="test", wait=0):
        pass
    rig.drbd_is(monkeypatch, SURVIVOR)
    pair.places.split_brain.parent.mkdir(parents=True, exist_ok=True)
    pair.places.split_brain.touch()
    with pytest.raises(PeerError):
        pair.peer()


# Ends of all kinds.


@pytest.mark.parametrize("brief", [XEN1, XEN2])
def test_the_death_of_the_owner_frees_both_halves(real_programs: None, tmp_path: Path, brief: Brief) -> None:
    body = """
with pair.lock("guest/web01", what="test", wait=10):
    print("held", flush=True)
    time.sleep(1000)
"""
    process = rig.caller(tmp_path, brief, body)
    rig.says(process, "held")
    assert not is_free(tmp_path, XEN1)
    assert not is_free(tmp_path, XEN2)
    process.kill()
    process.wait()
    rig.until(lambda: is_free(tmp_path, XEN1) and is_free(tmp_path, XEN2))


def test_the_end_of_the_session_is_noticed_by_who_holds_the_lock(
    real_programs: None, whole: None, tmp_path: Path
) -> None:
    sessions: list[Any] = []

    def connect(brief: Brief) -> PeerSession:
        sessions.append(rig.connect(tmp_path)(brief))
        return sessions[-1]  # type: ignore[no-any-return]

    with Pair(XEN1, rig.places(tmp_path, XEN1), connect=connect) as pair:
        with pair.lock(NAME, what="test", wait=10) as held:
            sessions[0]._process.kill()
            with pytest.raises(PeerError):
                held.check()
            with pytest.raises(PeerError):
                pair.verify()
            # No new session either, which would hide it.
            with pytest.raises(PeerError, match="has let go of guest/web01"):
                pair.peer()
            assert len(sessions) == 1
        assert is_free(tmp_path, XEN1)
        # Whoever comes next begins anew.
        with pair.lock(NAME, what="test", wait=10) as held:
            held.check()
        assert len(sessions) == 2


def test_a_half_that_the_server_has_lost_is_noticed(real_programs: None, whole: None, tmp_path: Path) -> None:
    pair = Pair(XEN1, rig.places(tmp_path, XEN1), connect=rig.connect(tmp_path))
    with pair, pair.lock(NAME, what="test", wait=10) as held:
        assert held.session is not None
        held.session.ask("unlock", name=NAME)
        with pytest.raises(PeerError, match="xen2 does not hold its half of guest/web01 any more"):
            pair.verify()


def test_callers_on_both_nodes_all_get_their_turn_and_never_two_at_once(real_programs: None, tmp_path: Path) -> None:
    turns = tmp_path / "turns"
    turns.touch()
    body = f"""
for _ in range(15):
    with pair.lock("guest/web01", what="test", wait=60):
        with pair.lock("volumes", what="test", wait=60):
            with open({str(turns)!r}, "a") as f:
                f.write("in\\n"); f.flush(); time.sleep(0.002); f.write("out\\n")
print("done", flush=True)
"""
    processes = [rig.caller(tmp_path, brief, body) for brief in (XEN1, XEN2)]
    for process in processes:
        rig.says(process, "done")
        assert process.wait(30) == 0
    assert turns.read_text() == "in\nout\n" * 30
