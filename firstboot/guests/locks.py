"""One node's half of a lock: flock(2) on a file below /run, which says who holds it.

The kernel lets go of it when its holder ends, however that ends. No program that the holder starts inherits it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from firstboot.errors import LockedError, NodeError
from firstboot.places import Places

T = TypeVar("T")

SAY_AFTER = 5.0
"""Seconds after which somebody who waits for a lock is told for whom."""
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.1, 0.4, 1.5
"""Seconds between two attempts, from the first to the longest: most locks are held for a moment, few for minutes. Who
has waited long tries nearly as often as who has just come, for there is no queue."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_.-]*(/[A-Za-z0-9][A-Za-z0-9+_.-]*)?")


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. pid: of the process on node that does what; since: local time of the node of this half."""

    node: str
    pid: int
    what: str
    since: str = ""


class Half:
    """A half that this process holds until it calls release() or ends."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    def release(self) -> None:
        """Let go of it; once more does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)


def take(places: Places, name: str, owner: Owner) -> Half:
    """This node's half of the lock, at once. Raises LockedError where somebody has it, this process included."""
    if not _NAME.fullmatch(name):
        raise NodeError(f"{name!r} is no name of a lock")
    path = places.locks / name.replace("/", ".")
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        record = {**asdict(owner), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(record).encode(), 0)
    except BlockingIOError:
        text = _holder(fd)
        os.close(fd)
        raise LockedError(f"{name} is held by {text}", hint="wait until that is done, and try again") from None
    except BaseException:
        os.close(fd)
        raise
    return Half(name, fd)


def _holder(fd: int) -> str:
    try:
        owner = Owner(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError):
        # It has taken the lock and not said yet who it is.
        return "somebody who has just taken it"
    return f"{owner.node} since {owner.since}: {owner.what} (process {owner.pid})"


class Patience:
    """Tries for as long as it is told to, from now on; tells waiting, once, for whom it waits."""

    def __init__(self, seconds: float, waiting: Callable[[str], None]) -> None:
        self._begun = time.monotonic()
        self._seconds = seconds
        self._waiting = waiting
        self._told = False

    def until(self, attempt: Callable[[], T]) -> T:
        """What attempt returns as soon as it does not raise LockedError any more. Raises its last LockedError."""
        pause = FIRST_PAUSE
        while True:
            try:
                return attempt()
            except LockedError as e:
                waited = time.monotonic() - self._begun
                if waited >= self._seconds:
                    raise
                if waited >= SAY_AFTER and not self._told:
                    self._told = True
                    self._waiting(f"waiting: {e.message}")
            time.sleep(min(pause, max(0.01, self._begun + self._seconds - time.monotonic())))
            pause = min(LONGEST_PAUSE, pause * GROWTH)
