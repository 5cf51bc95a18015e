"""The journal survives what a power cut can do to it, and refuses what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstboot.errors import JournalError
from firstboot.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "journal.jsonl"


def test_what_was_written_is_read_again(path: Path) -> None:
    journal = Journal(path)
    journal.write("disks", "begun", serial="S1")
    journal.write("disks", "begun", partuuid="P1")
    journal.write("identity", "done")
    again = Journal(path)
    assert again.detail("disks") == {"serial": "S1", "partuuid": "P1"}
    assert again.is_done("identity")
    assert not again.is_done("disks")


def test_the_journal_is_readable_by_root_alone(path: Path) -> None:
    Journal(path).write("disks", "begun")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_cut_off_by_the_power_does_not_count(path: Path, cut: int) -> None:
    journal = Journal(path)
    journal.write("identity", "done")
    journal.write("disks", "begun", serial="S1")
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path)
    assert again.is_done("identity")
    assert again.detail("disks") == {}
    again.write("disks", "begun", serial="S2")
    assert Journal(path).detail("disks") == {"serial": "S2"}


@pytest.mark.parametrize("garbage", [b"\x00" * 64 + b"\n", b"[]\n", b'{"step": "disks"}\n', b"null\n", b'"x"\n'])
def test_garbage_is_a_clear_stop_and_never_a_fresh_start(path: Path, garbage: bytes) -> None:
    Journal(path).write("disks", "begun", serial="S1")
    path.write_bytes(garbage + path.read_bytes())
    with pytest.raises(JournalError, match=r"journal\.jsonl:1"):
        Journal(path)


def test_an_unknown_event_is_a_clear_stop(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"step": "disks", "event": "undone", "time": 1, "detail": {}}\n')
    with pytest.raises(JournalError, match="undone"):
        Journal(path)
