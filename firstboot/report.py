"""Where first boot stands: a line a step for the console and the log, and a file for `xenpair status`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from config.door import write_file
from firstboot.places import Places

State = Literal["running", "waiting", "failed", "done"]


@dataclass(frozen=True)
class Progress:
    """A snapshot: the state, the step that it is in, and what it waits for or failed on."""

    state: State
    step: str = ""
    error: str = ""
    resumed_at: str = ""


class Reporter:
    """Says each thing once: the console is read by people, and a wait may last for hours."""

    def __init__(
        self, path: Path, steps: tuple[str, ...], tell: Callable[[Progress, str], None] = lambda _now, _said: None
    ) -> None:
        """tell: is told each snapshot and the text of it, too."""
        self._path = path
        self._steps = steps
        self._tell = tell
        self._last = ""
        self._now = Progress("running", steps[0])

    def begin(self, step: str) -> None:
        """A step starts to change things."""
        self._say("begin", replace(self._now, state="running", step=step, error=""))

    def resumed(self, step: str) -> None:
        """First boot goes on at this step after an interruption."""
        self._say("resumed", replace(self._now, state="running", step=step, error="", resumed_at=step))

    def waiting(self, reason: str) -> None:
        """The present step waits for something outside this node."""
        self._say(f"waiting: {reason}", replace(self._now, state="waiting", error=reason))

    def done(self, step: str) -> None:
        """A step's effect has been confirmed."""
        self._say("done", replace(self._now, state="running", step=step, error=""))

    def failed(self, error: str) -> None:
        """The present step stopped; error may have several lines."""
        self._say(f"failed: {error}", replace(self._now, state="failed", error=error))

    def formed(self) -> None:
        """All is there."""
        self._now = replace(self._now, state="done", step="", error="")
        self._keep("xenpair: formed")

    def _say(self, text: str, now: Progress) -> None:
        self._now = now
        place = f"[{self._steps.index(now.step) + 1}/{len(self._steps)}] {now.step}"
        self._keep("\n".join(f"xenpair: {place}: {line}" for line in text.splitlines()))

    def _keep(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        write_file(self._path, json.dumps(asdict(self._now)) + "\n")
        self._tell(self._now, text)


def read_progress(path: Path) -> Progress | None:
    """The last snapshot, or None where there is none since boot."""
    try:
        return Progress(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def awaited_machine(places: Places) -> str | None:
    """The wait of a survivor, from `xenpair replace` until the new machine has joined; None on any other node."""
    if places.join.exists():
        return None
    try:
        name = places.awaited.read_text().strip()
    except FileNotFoundError:
        return None
    return f"a new {name}: it joins by itself when it boots with the image and this pair's seed"
