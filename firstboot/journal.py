"""The journal of first boot: what was begun and what was finished, a JSON object a line, fsynced.

"begun" is written before the first change that a step makes, with what it is about to touch; "done" after its check
has confirmed the effect. So a node that lost power anywhere knows which half-made things are its own.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.door import write_file
from firstboot.errors import JournalError

Event = Literal["begun", "done"]


@dataclass(frozen=True)
class Entry:
    """One line: a step, what happened to it, when (seconds since the epoch, this node's clock), and details."""

    step: str
    event: Event
    time: float
    detail: dict[str, str]


class Journal:
    """Append-only; a last line without its end is a write that the power cut, and does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = _read(path)

    def write(self, step: str, event: Event, **detail: str) -> None:
        """Append a line, and return once it is on the disk."""
        entry = Entry(step, event, time.time(), detail)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            write_file(self.path, b"", mode=0o600)
        with self.path.open("r+b") as f:
            end = _complete_length(f.read())
            f.truncate(end)
            f.seek(end)
            f.write(json.dumps(entry.__dict__).encode() + b"\n")
            f.flush()
            os.fsync(f.fileno())
        self.entries.append(entry)

    def is_done(self, step: str) -> bool:
        """Whether the step has been finished once."""
        return any(e.step == step and e.event == "done" for e in self.entries)

    def detail(self, step: str) -> dict[str, str]:
        """Details of the step's lines, later ones over earlier ones; empty where there are none."""
        merged: dict[str, str] = {}
        for entry in self.entries:
            if entry.step == step:
                merged |= entry.detail
        return merged


def _complete_length(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _read(path: Path) -> list[Entry]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    entries = []
    for number, line in enumerate(data[: _complete_length(data)].splitlines(), 1):
        try:
            raw = json.loads(line)
            entry = Entry(str(raw["step"]), raw["event"], float(raw["time"]), dict(raw["detail"]))
        except (ValueError, TypeError, KeyError) as e:
            raise JournalError(
                f"{path}:{number}: not a line of this journal",
                hint="first boot stops rather than start afresh over what may hold data; "
                "restore the file, or install this node anew with its backing disk wiped by hand",
            ) from e
        if entry.event not in ("begun", "done"):
            raise JournalError(f"{path}:{number}: unknown event {entry.event!r}", hint="restore the file")
        entries.append(entry)
    return entries
