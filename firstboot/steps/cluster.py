"""The cluster stack on both nodes, each seeing the other."""

from __future__ import annotations

import time
from typing import ClassVar

from firstboot.stack import stack
from firstboot.steps import Work


class Heartbeat:
    """ha.cf, authkeys, haresources, and the daemon."""

    name: ClassVar[str] = "heartbeat"
    text: ClassVar[str] = "ha.cf, authkeys (0600), haresources; started, and each node sees the other"

    def check(self, work: Work) -> bool:
        """It runs by the config in force, and hears the peer."""
        return work.node.is_deployed(dict(stack().files)) and stack().state(work.node.peer.name) == "up"

    def apply(self, work: Work) -> None:
        """Start it, and wait for the peer's."""
        stack().start(work.node)
        while stack().state(work.node.peer.name) != "up":
            work.waiting(f"heartbeat has not heard {work.node.peer.name} yet")
            time.sleep(1)
