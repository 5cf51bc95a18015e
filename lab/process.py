"""Long-running processes of the lab: started in sessions of their own, found again later, never mistaken for others.

A lab command starts QEMU and ends; the next command finds it again by what the first one wrote down. A PID alone would
not do: it may belong to a stranger by then.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from config.door import SYSTEM_PATH
from lab import liveness
from lab.errors import StartError

SOURCES = Path(__file__).resolve().parent.parent

# Children of this very process stay zombies until it waits for them; all others are reaped by init.
_children: dict[int, subprocess.Popen[bytes]] = {}


class Process(BaseModel):
    """A running process, named so that neither a reused PID nor a rebooted host can be taken for it."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: int
    """Start time in clock ticks since boot: field 22 of /proc/PID/stat, proc(5)."""
    boot_id: str
    """/proc/sys/kernel/random/boot_id at that time."""

    @classmethod
    def spawn(cls, argv: Sequence[str], *, cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> Self:
        """Start a program in a session of its own; its standard output and error are appended to log.

        Raises StartError when the program cannot be started at all.
        """
        environment = {"LANG": "C.UTF-8", "PATH": SYSTEM_PATH, "HOME": os.environ.get("HOME", "/root"), **(env or {})}
        with log.open("ab") as output:
            try:
                child = subprocess.Popen(
                    argv,
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as e:
                raise StartError(f"{argv[0]} cannot be started: {e.strerror}") from e
        _children[child.pid] = child
        _, started = liveness.stat(child.pid) or ("", 0)
        return cls(pid=child.pid, started=started, boot_id=liveness.boot_id())

    @classmethod
    def spawn_module(cls, module: str, *arguments: str, cwd: Path, log: Path) -> Self:
        """Start a module of this project as a program of its own; otherwise as spawn()."""
        argv = [sys.executable, "-m", module, *arguments]
        return cls.spawn(argv, cwd=cwd, log=log, env={"PYTHONPATH": str(SOURCES)})

    def alive(self) -> bool:
        """Whether this very process still runs."""
        if (child := _children.get(self.pid)) is not None and child.poll() is not None:
            del _children[self.pid]
        return liveness.alive(self.pid, self.started, self.boot_id)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Does nothing when it already is."""
        self._end(signal.SIGKILL, timeout=30)

    def terminate(self, timeout: float = 10) -> None:
        """SIGTERM; SIGKILL when it still runs after timeout seconds."""
        if not self._end(signal.SIGTERM, timeout=timeout):
            self.kill()

    def wait(self, timeout: float) -> bool:
        """Wait at most timeout seconds for its end; whether it came."""
        return self._end(None, timeout=timeout)

    def _end(self, sig: signal.Signals | None, *, timeout: float) -> bool:
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # The descriptor pins the process; only now is the comparison of start times free of races.
            if not self.alive():
                return True
            if sig is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, sig)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            ended = bool(poll.poll(timeout * 1000))
        finally:
            os.close(fd)
        return ended or not self.alive()
