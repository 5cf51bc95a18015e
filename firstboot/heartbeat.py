"""heartbeat 3 as the cluster stack, with haresources: one line a node, the group of its home guests.

All that xenpair knows of heartbeat's files and commands is here, in its templates and in firstboot.probe.heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from config.door import run
from firstboot import observe
from firstboot.probe.heartbeat import HeartbeatState

if TYPE_CHECKING:
    from firstboot.brief import Brief
    from firstboot.node import ThisNode

TOOLS = "/usr/share/heartbeat"
"""Where Debian's heartbeat keeps hb_standby and hb_takeover."""

RESTART_LIMIT = 300.0
"""Seconds for heartbeat to stop, which hands over what it still carries, and to start."""


class Heartbeat:
    """firstboot.stack.ClusterStack by heartbeat."""

    files: ClassVar[Mapping[str, int]] = {
        "etc/ha.d/ha.cf": 0o644,
        "etc/ha.d/authkeys": 0o600,
        "etc/ha.d/haresources": 0o644,
        "etc/ha.d/resource.d/xenpair-guests": 0o755,
    }

    read_at_start: ClassVar[frozenset[str]] = frozenset({"etc/ha.d/ha.cf", "etc/ha.d/haresources"})
    never_apart: ClassVar[frozenset[str]] = frozenset({"etc/ha.d/authkeys"})

    def start(self, node: ThisNode) -> None:
        """Write its files and start the daemon."""
        node.deploy(dict(self.files))
        run(["systemctl", "start", "--no-block", "heartbeat.service"])

    def restart(self) -> None:
        """A stop tells the peer, so nobody is taken for dead."""
        run(["systemctl", "restart", "heartbeat.service"], timeout=RESTART_LIMIT)

    def state(self, peer: str) -> HeartbeatState:
        """As cl_status tells it."""
        return observe.heartbeat(peer)

    def stand_by(self, brief: Brief) -> None:  # noqa: ARG002 -- heartbeat knows who its peer is
        """Give up all groups; the peer takes them."""
        run([f"{TOOLS}/hb_standby", "all"])

    def bring_home(self, brief: Brief) -> None:  # noqa: ARG002
        """Ask for the group whose home is here."""
        run([f"{TOOLS}/hb_takeover", "local"])
