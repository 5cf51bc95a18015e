"""The journal of first boot: what was begun and what was finished, a JSON object a line, fsynced.

"begun" is written before the first change that a step makes, with what it is about to touch; "done" after its check
has confirmed the effect. So a node that lost power anywhere knows which half-made things are its own.

Each line carries a sum over itself and all lines before it, so whatever happened to the file later, what is read is how
it began, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from config.door import write_file
from firstboot.errors import JournalError

Event = Literal["begun", "done"]

REBUILT = "journal"
"""In place of a step's name: here the journal was lost, and begun anew from what the node showed."""


@dataclass(frozen=True)
class Entry:
    """One line: a step, what happened to it, when (seconds since the epoch, this node's clock), and details."""

    step: str
    event: Event
    time: float
    detail: dict[str, str]


@dataclass(frozen=True)
class Reading:
    """What a journal's file holds: its entries up to the first line that is none, and what is wrong there, if anything.

    A last line without its end is a write that the power cut; it does not count, and is nothing wrong.
    """

    entries: tuple[Entry, ...] = ()
    damage: str = ""


class Journal:
    """Append-only. Raises JournalError for a file that is damaged; firstboot.recovery says what becomes of that."""

    def __init__(self, path: Path) -> None:
        reading = read_journal(path)
        if reading.damage:
            raise JournalError(reading.damage, hint="`xenpair resume` keeps the file, and rebuilds what is certain")
        self.path = path
        self.entries = list(reading.entries)
        self._sum = _total(self.entries)

    @classmethod
    def rebuild(cls, path: Path, entries: Iterable[Entry]) -> Journal:
        """Replace the file at once by one with these entries."""
        lines, total = b"", ""
        for entry in entries:
            line, total = _line(entry, total)
            lines += line
        write_file(path, lines, mode=0o600)
        return cls(path)

    def write(self, step: str, event: Event, **detail: str) -> None:
        """Append a line, and return once it is on the disk."""
        entry = Entry(step, event, time.time(), detail)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            write_file(self.path, b"", mode=0o600)
        line, total = _line(entry, self._sum)
        with self.path.open("r+b") as f:
            end = _complete_length(f.read())
            f.truncate(end)
            f.seek(end)
            f.write(line)
            f.flush()
            os.fsync(f.fileno())
        self.entries.append(entry)
        self._sum = total

    @property
    def rebuilt(self) -> bool:
        """Whether it was lost once: then something may have happened that it does not tell."""
        return any(e.step == REBUILT for e in self.entries)

    def is_done(self, step: str) -> bool:
        """Whether the step has been finished once."""
        return any(e.step == step and e.event == "done" for e in self.entries)

    def detail(self, step: str) -> dict[str, str]:
        """Details of the step's lines, later ones over earlier ones; empty where there are none."""
        return merged_detail(self.entries, step)


def merged_detail(entries: Iterable[Entry], step: str) -> dict[str, str]:
    """Details of a step's entries, later ones over earlier ones."""
    merged: dict[str, str] = {}
    for entry in entries:
        if entry.step == step:
            merged |= entry.detail
    return merged


def read_journal(path: Path) -> Reading:
    """What the file holds; nothing where there is no file. Raises OSError where it cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Reading()
    entries: list[Entry] = []
    total = ""
    for number, line in enumerate(data[: _complete_length(data)].split(b"\n")[:-1], 1):
        try:
            entry = _entry(line)
            expected, total = _line(entry, total)
        except (ValueError, TypeError, KeyError, RecursionError):
            return Reading(tuple(entries), f"{path}:{number}: not a line of this journal")
        if line + b"\n" != expected:
            return Reading(tuple(entries), f"{path}:{number}: not as it was written, or not after the line before it")
        entries.append(entry)
    return Reading(tuple(entries))


def set_aside(path: Path) -> Path:
    """Keep a copy of the file under a name of its own, for the administrator, and tell that name."""
    data = path.read_bytes()
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    # The same content again: the power was cut between this and the new journal.
    kept = next(name for name in names if not name.exists() or name.read_bytes() == data)
    write_file(kept, data, mode=0o600)
    return kept


def kept_aside(path: Path) -> tuple[Path, ...]:
    """All that set_aside() has kept of that journal and that the administrator has not removed."""
    return tuple(sorted(path.parent.glob(f"{path.name}.damaged-*")))


def _complete_length(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _entry(line: bytes) -> Entry:
    raw: Any = json.loads(line)
    step, event, seconds, detail = raw["step"], raw["event"], raw["time"], raw["detail"]
    if event not in ("begun", "done"):
        raise ValueError(event)
    return Entry(step, event, seconds, dict(detail))


def _line(entry: Entry, before: str) -> tuple[bytes, str]:
    """A line of the file and its sum, given the sum of the line before it."""
    content = {"step": entry.step, "event": entry.event, "time": entry.time, "detail": entry.detail}
    total = hashlib.sha256((before + json.dumps(content)).encode()).hexdigest()[:16]
    return json.dumps({**content, "sum": total}).encode() + b"\n", total


def _total(entries: Iterable[Entry]) -> str:
    total = ""
    for entry in entries:
        _, total = _line(entry, total)
    return total
