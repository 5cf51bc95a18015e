"""Eyes: what they make of a disk, and of a tool that does not answer as on a quiet day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from config.door import Output
from firstboot import observe
from firstboot.errors import NodeError, ProbeError
from firstboot.probe.drbd import UNCONFIGURED, DrbdState
from firstboot.steps import disks

UNCLEAN = 'Found meta data is "unclean", please apply-al first\n'
BUSY = "open(/dev/vdb1) failed: Device or resource busy\n"
ATTACHED = DrbdState("WFConnection", "Secondary", "Unknown", "UpToDate", "DUnknown")


def answer(monkeypatch: pytest.MonkeyPatch, *outputs: Output) -> list[Sequence[str | Path]]:
    """The next programs answer like that; returns what was started."""
    started: list[Sequence[str | Path]] = []
    waiting = list(outputs)

    def run(argv: Sequence[str | Path], **_: object) -> Output:
        started.append(argv)
        return waiting.pop(0)

    monkeypatch.setattr(observe, "run", run)
    return started


def test_metadata_after_a_power_cut_is_read_all_the_same(captured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = (captured / "drbd-dump-md-unclean.txt").read_text()
    started = answer(monkeypatch, Output(1, "", UNCLEAN), Output(0, dump, UNCLEAN))
    metadata = observe.metadata("/dev/vdb1")
    assert metadata is not None
    assert metadata.fresh
    assert ["--force" in argv for argv in started] == [False, True]


def test_no_metadata_and_no_answer_are_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, Output(255, "", "No valid meta data found\n"), Output(20, "", BUSY))
    assert observe.metadata("/dev/vdb1") is None
    with pytest.raises(ProbeError, match="busy"):
        observe.metadata("/dev/vdb1")


def test_a_partition_that_is_attached_while_we_look_has_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [UNCONFIGURED, ATTACHED]
    monkeypatch.setattr(observe, "drbd", lambda: states.pop(0))
    answer(monkeypatch, Output(20, "", BUSY))
    assert disks._has_metadata(Path("/dev/vdb1"))


def test_a_partition_that_cannot_be_read_is_a_clear_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "drbd", lambda: UNCONFIGURED)
    answer(monkeypatch, Output(20, "", BUSY))
    with pytest.raises(ProbeError, match="busy"):
        disks._has_metadata(Path("/dev/vdb1"))


def test_the_ends_of_a_disk_are_read_where_they_are(tmp_path: Path) -> None:
    size = 40 << 20
    disk = tmp_path / "disk"
    with disk.open("wb") as f:
        f.truncate(size)
        f.seek(20 << 20)
        f.write(b"between the ends")
    assert observe.edges(str(disk), size).data == ()
    with disk.open("r+b") as f:
        f.seek(size - 1)
        f.write(b"x")
    assert observe.edges(str(disk), size).data == (size - 4096,)


def test_a_disk_that_ends_too_early_is_a_clear_stop(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    with pytest.raises(ProbeError, match="ends at byte 4096, and lsblk says 8192"):
        observe.edges(str(disk), 8192)


def test_nobody_holds_a_file(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    assert not observe.held(str(tmp_path / "disk"))


def test_udev_may_take_its_time_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    timed_out = Output(1, "", "Failed to wait for daemon to reply: Connection timed out")
    started = answer(monkeypatch, timed_out, timed_out, Output(0, "", ""))
    monkeypatch.setattr("time.sleep", lambda _: None)
    said: list[str] = []
    observe.settle(said.append)
    assert len(started) == 3
    assert said == ["udev is still busy with the devices that it has found"] * 2


def test_a_udev_that_never_ends_is_an_error_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, *[Output(1, "", "")] * 9)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(observe, "SETTLE_LIMIT", -1.0)
    with pytest.raises(NodeError, match="udev has not dealt with all devices"):
        observe.settle()
