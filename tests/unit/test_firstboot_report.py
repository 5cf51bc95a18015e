"""What first boot says: on the console, and to `xenpair status`."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstboot.probe.drbd import DrbdState
from firstboot.report import Progress, Reporter, read_progress
from firstboot.status import FencingStatus, health

STEPS = ("seed", "identity", "join")
WHOLE = DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.json"


def test_each_step_is_one_line_with_its_number(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(path, STEPS)
    reporter.begin("identity")
    reporter.waiting("no peer")
    reporter.done("identity")
    reporter.formed()
    assert capsys.readouterr().out.splitlines() == [
        "xenpair: [2/3] identity: begin",
        "xenpair: [2/3] identity: waiting: no peer",
        "xenpair: [2/3] identity: done",
        "xenpair: formed",
    ]


def test_a_wait_of_hours_says_each_reason_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(path, STEPS)
    reporter.begin("join")
    for reason in ("no peer", "no peer", "a stranger", "a stranger"):
        reporter.waiting(reason)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_status_reads_what_was_said_last(path: Path) -> None:
    reporter = Reporter(path, STEPS)
    reporter.resumed("identity")
    reporter.begin("join")
    reporter.waiting("no peer")
    assert read_progress(path) == Progress("waiting", "join", "no peer", resumed_at="identity")
    reporter.failed("two\nlines")
    assert read_progress(path) == Progress("failed", "join", "two\nlines", resumed_at="identity")
    reporter.formed()
    assert read_progress(path) == Progress("done", resumed_at="identity")


def test_every_line_of_a_failure_is_marked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(path, STEPS)
    reporter.begin("join")
    reporter.failed("what\n  what to do")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "xenpair: [3/3] join: failed: what",
        "xenpair: [3/3] join:   what to do",
    ]


def test_no_progress_is_none_and_garbage_is_too(path: Path) -> None:
    assert read_progress(path) is None
    path.write_text("{")
    assert read_progress(path) is None


@pytest.mark.parametrize(
    ("state", "drbd", "group", "heartbeat", "expected"),
    [
        ("done", WHOLE, True, "up", "healthy"),
        ("running", WHOLE, True, "up", "degraded"),
        ("failed", WHOLE, True, "up", "failed"),
        ("done", WHOLE, False, "up", "degraded"),
        ("done", WHOLE, True, "alone", "degraded"),
        ("done", DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "DUnknown"), True, "alone", "degraded"),
        ("done", DrbdState("StandAlone", "Primary", "Unknown", "UpToDate", "DUnknown"), True, "up", "failed"),
        ("done", DrbdState("Connected", "Primary", "Primary", "Diskless", "UpToDate"), True, "up", "failed"),
        ("done", DrbdState("Connected", "Primary", "Secondary", "UpToDate", "UpToDate"), True, "up", "degraded"),
        (
            "done",
            DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate", suspended=True),
            True,
            "up",
            "degraded",
        ),
    ],
)
def test_health(state: str, drbd: DrbdState, group: bool, heartbeat: str, expected: str) -> None:
    ready = FencingStatus("ready")
    assert health(state, drbd, group, heartbeat, ready) == expected  # type: ignore[arg-type]


def test_a_split_brain_is_a_failure_whatever_else_works() -> None:
    alone = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated")
    assert health("done", alone, True, "up", FencingStatus("ready"), parted=True) == "failed"


def test_a_pair_whose_fencing_would_not_work_is_not_healthy() -> None:
    states = {state: health("done", WHOLE, True, "up", FencingStatus(state)) for state in ("by-hand", "unready")}
    assert states == {"by-hand": "healthy", "unready": "degraded"}
