"""Simulated time: events in order, owned by nodes that may have died or hang when their moment comes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import Any, Protocol

Action = Callable[[], object]


class Owner(Protocol):
    """What an event belongs to: it is void after a reboot (another life), and waits while its owner hangs."""

    life: int
    hung: bool
    deferred: list[Action]


class Gate:
    """What processes wait at until somebody opens it."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Action] = []

    def wait(self, resume: Action) -> None:
        """Have resume called at the next opening."""
        self._waiting.append(resume)

    def open(self) -> None:
        """Let all go who wait now."""
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()


Process = Generator[float | Gate, None, Any]
"""Yields seconds to let pass, or a gate to wait at."""


class Clock:
    """The queue. Nothing in the model takes time but what is queued here."""

    def __init__(self) -> None:
        self.now = 0.0
        self.halted = False
        self._queue: list[tuple[float, int, Action, Owner | None, int]] = []
        self._count = 0

    def after(self, seconds: float, action: Action, owner: Owner | None = None) -> None:
        """Call action in so many seconds, unless its owner has died by then."""
        self._count += 1
        life = owner.life if owner else 0
        heapq.heappush(self._queue, (self.now + seconds, self._count, action, owner, life))

    def run(self, process: Process, owner: Owner) -> None:
        """Start a process of an owner; it ends with the owner's life."""
        life = owner.life

        def step() -> None:
            if owner.life != life:
                return
            try:
                wanted = next(process)
            except StopIteration:
                return
            if isinstance(wanted, Gate):
                wanted.wait(lambda: self.after(0, step, owner) if owner.life == life else None)
            else:
                self.after(wanted, step, owner)

        self.after(0, step, owner)

    def run_until(self, end: float, audit: Action) -> None:
        """Let all events up to that time happen, or until one has set halted; audit is called after each."""
        queue = self._queue
        self.halted = False
        while queue and queue[0][0] <= end:
            self.now, _, action, owner, life = heapq.heappop(queue)
            if owner is not None:
                if owner.life != life:
                    continue
                if owner.hung:
                    owner.deferred.append(action)
                    continue
            action()
            audit()
            if self.halted:
                return
        self.now = end
