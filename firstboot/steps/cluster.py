"""The cluster stack: heartbeat on both nodes, each seeing the other.

All that xenpair knows of heartbeat's files and commands is here and in firstboot.probe.heartbeat, so that a second
stack can take its place.
"""

from __future__ import annotations

import time
from typing import ClassVar

from config.door import run
from firstboot import observe
from firstboot.steps import Work

FILES = {"etc/ha.d/ha.cf": 0o644, "etc/ha.d/authkeys": 0o600, "etc/ha.d/haresources": 0o644}


class Heartbeat:
    """ha.cf, authkeys, haresources, and the daemon."""

    name: ClassVar[str] = "heartbeat"
    text: ClassVar[str] = "ha.cf, authkeys (0600), haresources; started, and each node sees the other"

    def check(self, work: Work) -> bool:
        """It runs by the config in force, and hears the peer."""
        return work.node.is_deployed(FILES) and observe.heartbeat(work.node.peer.name) == "up"

    def apply(self, work: Work) -> None:
        """Start it, and wait for the peer's."""
        work.node.deploy(FILES)
        run(["systemctl", "start", "--no-block", "heartbeat.service"])
        while observe.heartbeat(work.node.peer.name) != "up":
            work.waiting(f"heartbeat has not heard {work.node.peer.name} yet")
            time.sleep(1)
