"""Reading a node's serial console: from the bytes of its log to where its boot stands.

A node reports each step of its first boot as one console line, `xenpair: [I/N] STEP: STATE`, and at the very end
`xenpair: formed`. So does the installer, as `xenpair install: ...`, and says `installed` before it reboots. What comes
before the first of those is read off the boot messages of GRUB, Xen, Linux and systemd.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

TAIL = 25
"""Lines kept for an error message."""

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, ECMA-48 8.3.89
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI, ECMA-48 5.4
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f]"
)
_STEP = re.compile(
    r"xenpair( install)?: \[(\d+)/(\d+)\] ([^:]+): (begin|running|done|resumed|waiting|failed)(?:: (.*))?"
)
_INSTALLED = re.compile(r"xenpair install: installed\b")
_FORMED = re.compile(r"xenpair: formed\b")


class Stage(IntEnum):
    """How far a boot has come, in the order of a boot. An empty machine is installed before it boots Xen."""

    FIRMWARE = 0
    GRUB = 1
    INSTALLER = 2
    XEN = 3
    LINUX = 4
    SYSTEMD = 5
    LOGIN = 6
    STEPS = 7
    FORMED = 8

    @property
    def title(self) -> str:
        """As a person writes it."""
        return {"GRUB": "GRUB", "SYSTEMD": "systemd"}.get(self.name, self.name.capitalize())


_SIGNS = (
    (Stage.GRUB, re.compile(r"GNU GRUB")),
    (Stage.XEN, re.compile(r"^\(XEN\) Xen version \d|^ *Xen \d+\.\d+")),
    (Stage.LINUX, re.compile(r"\] Linux version \d")),
    (Stage.SYSTEMD, re.compile(r"systemd\[1\]: |^ *Welcome to (?!GRUB)")),
    (Stage.LOGIN, re.compile(r"(?:^|\s)\S+ login:(?: |$)")),
)
_BANNERS = (Stage.GRUB, Stage.XEN, Stage.LINUX)
"""Stages whose sign is printed once a boot: seen again later, the node has rebooted."""

_FATAL = re.compile(
    r"Kernel panic - not syncing.*|Xen BUG at .*|Panic on CPU \d+.*|d0v\d+ Unhandled: vec.*|Hardware Dom0 crashed.*"
    r"|Domain 0 crashed.*|ALERT! .* does not exist.*|You are in emergency mode.*|grub rescue>|No bootable device.*"
)

_SPINNER = re.compile(r"^\[[ *]+\] ")


@dataclass(frozen=True)
class Step:
    """A step of the installer or of first boot, as the node last told it."""

    number: int
    of: int
    name: str
    state: str
    text: str = ""

    def __str__(self) -> str:
        return f"[{self.number}/{self.of}] {self.name}: {self.state}" + (f": {self.text}" if self.text else "")


@dataclass(frozen=True)
class Progress:
    """Where a boot stands."""

    stage: Stage = Stage.FIRMWARE
    step: Step | None = None
    installed: bool = False
    """The installer is done; the boot that follows belongs to it."""
    reboots: int = 0
    """Boots that began after the first one, other than that."""
    failure: str = ""
    """Why this boot will not end well: a failed step, or what a panic said."""

    @property
    def formed(self) -> bool:
        """The node is part of a formed pair."""
        return self.stage is Stage.FORMED

    @property
    def text(self) -> str:
        """One line for a person."""
        if self.failure:
            return self.failure
        if self.installed and self.stage is Stage.INSTALLER:
            return "installed"
        if self.stage not in (Stage.INSTALLER, Stage.STEPS) or self.step is None:
            return self.stage.title
        # How far a step is changes all the time, and is nothing new.
        return str(replace(self.step, text="") if self.step.state == "running" else self.step)


def advance(progress: Progress, line: str) -> Progress:
    """What a clean console line changes."""
    if match := _STEP.search(line):
        installer, number, of, name, state, text = match.groups()
        step = Step(int(number), int(of), name, state, (text or "").rstrip())
        stage = Stage.INSTALLER if installer else Stage.STEPS
        return replace(progress, stage=stage, step=step, failure=str(step) if state == "failed" else "")
    if _INSTALLED.search(line):
        return replace(progress, stage=Stage.INSTALLER, step=None, installed=True)
    if _FORMED.search(line):
        return replace(progress, stage=Stage.FORMED, failure="")
    if match := _FATAL.search(line):
        return progress if progress.failure else replace(progress, failure=match[0].strip())
    reached = next((stage for stage, sign in _SIGNS if sign.search(line)), None)
    return progress if reached is None else _reached(progress, reached)


def _reached(progress: Progress, stage: Stage) -> Progress:
    if stage is Stage.LINUX and progress.stage < Stage.XEN:
        # The installer's, which boots without Xen.
        return progress
    if stage in _BANNERS and progress.stage > stage:
        return Progress(stage, reboots=progress.reboots + (not progress.installed))
    return replace(progress, stage=max(stage, progress.stage))


def clean(line: str) -> str:
    """A console line without escape sequences and control characters."""
    return _ESCAPES.sub("", line).rstrip()


@dataclass
class Console:
    """Turns console output, in pieces of any size, into progress."""

    progress: Progress = field(default_factory=Progress)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    """The last lines that were neither blank nor systemd's spinner."""
    _pending: bytes = b""

    def feed(self, data: bytes) -> None:
        """The next piece of output."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for raw in lines:
            if line := clean(raw.decode(errors="replace")):
                if not _SPINNER.match(line):
                    self.tail.append(line)
                self.progress = advance(self.progress, line)
        # A prompt waits at the end of a line that nobody ends.
        if b"login: " in self._pending:
            self.progress = advance(self.progress, clean(self._pending.decode(errors="replace")))

    def last_lines(self) -> str:
        """The tail and what is not yet a whole line, for an error message."""
        pending = clean(self._pending.decode(errors="replace"))
        return "\n".join(f"  | {line}" for line in [*self.tail, *([pending] if pending else [])][-TAIL:])


class Follower:
    """Reads a growing console log from a given offset on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.console = Console()
        self._path = path
        self._offset = offset

    def poll(self) -> Progress:
        """Read what was added since the last call, and tell where the boot stands."""
        try:
            with self._path.open("rb") as f:
                f.seek(self._offset)
                data = f.read()
        except FileNotFoundError:
            data = b""
        self._offset += len(data)
        self.console.feed(data)
        return self.console.progress
