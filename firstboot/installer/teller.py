"""What the installer says: a line for each step on every console, and the same to the server."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from firstboot.herald import Herald, Report

STEPS = ("source", "identity", "disk", "image", "write", "hand-over", "boot")
LOG = 50
"""Lines that are remembered for the server."""

State = Literal["running", "waiting", "failed", "done"]


class Consoles:
    """Where people look and type: devices, or else where it was started. One that refuses is passed over."""

    def __init__(self, devices: Sequence[Path] = ()) -> None:
        fds = []
        for device in devices:
            with contextlib.suppress(OSError):
                fds.append(os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        self._outputs = fds or [sys.stdout.fileno()]
        self._inputs = fds or [sys.stdin.fileno()]

    @classmethod
    def of_kernel(cls) -> Consoles:
        """All that the kernel of a machine that boots takes for its consoles; started by hand, none of them."""
        if os.getpid() != 1:
            return cls()
        return cls([Path("/dev", name) for name in Path("/sys/class/tty/console/active").read_text().split()])

    def say(self, text: str) -> None:
        """Whole lines."""
        for fd in self._outputs:
            with contextlib.suppress(OSError):
                os.write(fd, text.encode(errors="replace"))

    def await_enter(self) -> None:
        """Until somebody presses Enter on one of them; without anybody there, for ever."""
        inputs = list(self._inputs)
        while inputs:
            for fd in select.select(inputs, [], [])[0]:
                try:
                    typed = os.read(fd, 1024)
                except OSError:
                    typed = b""
                if b"\n" in typed or b"\r" in typed:
                    return
                if not typed:
                    inputs.remove(fd)
        while True:
            time.sleep(3600)


class Teller:
    """Says each thing once. ticket and machine are told to the server as soon as they are known."""

    def __init__(self, consoles: Consoles) -> None:
        self._consoles = consoles
        self._step = STEPS[0]
        self._last = ""
        self._lines: deque[str] = deque(maxlen=LOG)
        self.herald: Herald | None = None
        self.ticket = ""
        self.machine = ""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """From its begin to its done, with the seconds that it took."""
        self._step = name
        begun = time.monotonic()
        self._tell("running", "begin")
        yield
        self._tell("done", "done")
        self.timing(name, time.monotonic() - begun)

    def waiting(self, reason: str) -> None:
        """The present step waits for something, or tries something again."""
        self._tell("waiting", f"waiting: {reason}", reason)

    def running(self, progress: str, percent: int) -> None:
        """How far the present step is."""
        self._tell("running", f"running: {progress}", progress, percent)

    def failed(self, error: str) -> None:
        """The present step stopped; error may have several lines."""
        self._tell("failed", f"failed: {error}", error)

    def installed(self) -> None:
        """All is written."""
        self._write("installed")
        self._report("done", "installed", None)

    def note(self, text: str) -> None:
        """What belongs to no state; may have several lines."""
        for line in text.splitlines():
            self._write(line)

    def heard(self, ticket: str) -> None:
        """The server knows this machine, and will know it again by that."""
        self.ticket = ticket

    def timing(self, what: str, seconds: float) -> None:
        """For whoever measures."""
        self._write(f"timing: {what} {seconds:.2f}")

    def stay(self) -> None:
        """Until somebody wants another try."""
        self._write("stopped; nothing happens until Enter is pressed, which tries again")
        self._consoles.await_enter()

    def _tell(self, state: State, words: str, text: str = "", percent: int | None = None) -> None:
        said = f"{self._step}: {words}"
        if said == self._last:
            return
        self._last = said
        place = f"[{STEPS.index(self._step) + 1}/{len(STEPS)}] {self._step}"
        for line in words.splitlines():
            self._write(f"{place}: {line}")
        self._report(state, text, percent)

    def _write(self, line: str) -> None:
        self._lines.append(line)
        self._consoles.say(f"xenpair install: {line}\n")

    def _report(self, state: State, text: str, percent: int | None) -> None:
        if self.herald is not None:
            self.herald.tell(self._now(state, text, percent))

    def _now(self, state: State, text: str, percent: int | None) -> Report:
        from firstboot.herald import Report, last_lines  # noqa: PLC0415  with a medium it is never needed

        log = last_lines(self._lines)
        return Report(self.ticket, self.machine, "installer", self._step, state, text, percent, log)
