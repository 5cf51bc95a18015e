"""What a piece of work costs: time, processor, memory."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.errors import CommandError, XenpairError

_PERIOD = 0.25
"""Seconds between two looks at the memory."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Run:
    """One measurement: seconds of wall and CPU (with all children), peak memory and size of the image in bytes.

    Memory is that of all processes together, shared pages counted once for each. With a failure there are no figures.
    """

    who: str
    kind: str
    wall: float = 0
    cpu: float = 0
    memory: int = 0
    size: int = 0
    failure: str = ""


def measured(who: str, kind: str, work: Callable[[], None], image: Callable[[], Path]) -> Run:
    """Do a piece of work; that it fails is a result, too."""
    wall, cpu = time.monotonic(), _cpu_seconds()
    with _Memory() as memory:
        try:
            work()
        except XenpairError as e:
            said = e.stderr if isinstance(e, CommandError) else str(e)
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            return Run(who, kind, failure=lines[-1] if lines else e.message)
    size = image().stat().st_blocks * 512
    return Run(who, kind, time.monotonic() - wall, _cpu_seconds() - cpu, memory.peak, size)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class _Memory:
    """Looks at this process and all that come from it, until the end."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_PERIOD):
            self.peak = max(self.peak, sum(_resident(pid) for pid in _family(os.getpid())))


def _family(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything (proc(5)).
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
