"""The journal survives what a power cut can do to it, and is believed only as far as it is whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstboot.errors import JournalError
from firstboot.journal import REBUILT, Entry, Journal, Reading, kept_aside, read_journal, set_aside


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "journal.jsonl"


def test_what_was_written_is_read_again(path: Path) -> None:
    journal = Journal(path)
    journal.write("disks", "begun", serial="S1")
    journal.write("disks", "begun", partuuid="P1")
    journal.write("identity", "done")
    again = Journal(path)
    assert again.entries == journal.entries
    assert again.detail("disks") == {"serial": "S1", "partuuid": "P1"}
    assert again.is_done("identity")
    assert not again.is_done("disks")
    assert not again.rebuilt


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


@pytest.mark.parametrize("garbage", [b"\x00" * 64 + b"\n", b"[]\n", b'{"step": "disks"}\n', b"null\n", b'"x"\n', b"\n"])
def test_garbage_is_a_clear_stop_and_never_a_fresh_start(path: Path, garbage: bytes) -> None:
    Journal(path).write("disks", "begun", serial="S1")
    path.write_bytes(garbage + path.read_bytes())
    with pytest.raises(JournalError, match=r"journal\.jsonl:1"):
        Journal(path)


@pytest.mark.parametrize(
    "forged",
    [
        '{"step": "disks", "event": "undone", "time": 1, "detail": {}, "sum": "0"}',
        '{"step": "disks", "event": "done", "time": 1, "detail": {}}',
        '{"step": "disks", "event": "done", "time": 1, "detail": {}, "sum": "0123456789abcdef"}',
    ],
)
def test_a_line_that_was_not_written_here_is_a_clear_stop(path: Path, forged: str) -> None:
    path.parent.mkdir()
    path.write_text(forged + "\n")
    with pytest.raises(JournalError, match=r"journal\.jsonl:1: not"):
        Journal(path)


def test_a_line_that_is_missing_in_the_middle_is_noticed(path: Path) -> None:
    journal = Journal(path)
    for step in ("identity", "network", "access"):
        journal.write(step, "done")
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third)
    reading = read_journal(path)
    assert reading.entries == tuple(journal.entries[:1])
    assert "journal.jsonl:2" in reading.damage


def test_a_rebuilt_journal_goes_on_and_says_so(path: Path) -> None:
    mark = Entry(REBUILT, "begun", 1.0, {"why": "lost"})
    journal = Journal.rebuild(path, [Entry("identity", "done", 0.5, {}), mark])
    journal.write("disks", "begun", serial="S1")
    again = Journal(path)
    assert again.rebuilt
    assert again.is_done("identity")
    assert again.detail("disks") == {"serial": "S1"}


def test_each_damaged_file_is_kept_once(path: Path) -> None:
    path.parent.mkdir()
    assert kept_aside(path) == ()
    path.write_bytes(b"one")
    first = set_aside(path)
    assert (first.name, first.read_bytes()) == ("journal.jsonl.damaged-1", b"one")
    assert set_aside(path) == first
    path.write_bytes(b"two")
    assert set_aside(path).name == "journal.jsonl.damaged-2"
    assert [kept.name[-1] for kept in kept_aside(path)] == ["1", "2"]
    assert first.stat().st_mode & 0o777 == 0o600


NAMES = st.sampled_from(["identity", "network", "disks", "join", "\u00fc"])
DETAILS = st.dictionaries(st.sampled_from(["serial", "partuuid", "wipe"]), st.text(max_size=8), max_size=3)
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.sampled_from(["begun", "done"]), st.floats(0, 2e9), DETAILS), min_size=1, max_size=6
)
DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(st.just("overwrite"), st.floats(0, 1), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("zero"), st.floats(0, 1), st.just(bytes(512))),
    st.tuples(st.just("flip"), st.floats(0, 1), st.binary(min_size=1, max_size=1)),
    st.tuples(st.just("replace"), st.just(0.0), st.binary(max_size=512)),
)


def damaged(data: bytes, how: str, where: float, content: bytes) -> bytes:
    at = int(where * len(data))
    match how:
        case "cut":
            return data[:at]
        case "overwrite" | "zero":
            return data[:at] + content + data[at + len(content) :]
        case "insert":
            return data[:at] + content + data[at:]
        case "flip":
            return data[:at] + bytes(b ^ (content[0] or 1) for b in data[at : at + 1]) + data[at + 1 :]
        case _:
            return content


def written(entries: list[Entry], path: Path) -> bytes:
    Journal.rebuild(path, entries)
    return path.read_bytes()


@pytest.mark.exhaustive
@given(ENTRIES, DAMAGE)
def test_whatever_becomes_of_the_file_nothing_is_read_that_was_not_written(
    entries: list[Entry], damage: tuple[str, float, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.jsonl"
        data = written(entries, path)
        path.write_bytes(damaged(data, *damage))
        reading = read_journal(path)
        assert reading.entries == tuple(entries[: len(reading.entries)])
        if path.read_bytes() == data:
            assert reading == Reading(tuple(entries))
        if len(reading.entries) < len(entries) and not reading.damage:
            # Only a file that ends in the middle of a line, or before one, may look like an earlier journal.
            whole = path.read_bytes().rpartition(b"\n")[0]
            assert data.startswith(whole)
        if reading.damage:
            with pytest.raises(JournalError):
                Journal(path)
