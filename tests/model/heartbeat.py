"""heartbeat 3.0 in haresources mode, as far as it fences: who hears whom, and what silence leads to.

After deadtime a silent peer is dead, and the STONITH plugin is asked until it says yes (hb_resource.c,
StonithProcessDied). A peer that is heard again after it was declared dead makes heartbeat restart itself, which ends
the asking; a plugin that runs then goes on to its own end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firstboot.fencing import HANDLER_LIMIT
from tests.model.clock import Process

if TYPE_CHECKING:
    from tests.model.node import Node

DEADTIME, INITDEAD = 20.0, 60.0
"""Defaults of config.model.Heartbeat."""

AGAIN = 5.0
"""Seconds from a plugin's no to the next question."""


class Heartbeat:
    """On one node. silent: since when the peer has not been heard, or None; left: the peer has said goodbye."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.running = False
        self.left = False
        self.dead = False
        self.taken_over = False
        self.silent: float | None = None
        self.started = 0.0

    def start(self) -> None:
        """Once the storage is up."""
        self.running, self.started = True, self.node.clock.now
        self.node.world.moved()

    def stop(self) -> None:
        """It dies, and nobody is told."""
        self.running = False
        self.node.world.moved()

    def say_goodbye(self) -> None:
        """An orderly stop is no death, if the peer hears of it."""
        if self.running and self.node.peer.answers and self.node.world.link.hears(1 - self.node.index):
            self.node.peer.heartbeat.left = True
        self.stop()

    def reconsider(self) -> None:
        """After anything that may have changed whether the peer is heard."""
        if not (self.running and self.node.answers):
            return
        if self.node.world.link.hears(self.node.index):
            self.left = self.dead = self.taken_over = False
            self.silent = None
        elif self.silent is None and not self.left:
            self.silent = silent = self.node.clock.now
            patience = INITDEAD if silent == self.started else DEADTIME

            def declare_dead() -> None:
                if self.running and self.silent == silent and not self.dead:
                    self.dead = True
                    self.node.clock.run(self._fence(), self.node)

            self.node.clock.after(patience, declare_dead, self.node)

    def _fence(self) -> Process:
        while self.dead and self.running:
            self.node.start_unit()
            if (yield from self.node.fence("heartbeat", HANDLER_LIMIT)):
                self._take_over()
                return
            yield AGAIN

    def _take_over(self) -> None:
        if self.dead and self.running:
            self.node.saw("guests taken over")
            self.node.world.audit.takeover(self.node)
            self.taken_over = True
