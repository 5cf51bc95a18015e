"""The cluster stack: who hears whom, and which node carries which guest group. One interface, so that a second stack
(Pacemaker on corosync) can take heartbeat's place without a change anywhere else.

Guests are not its business: it hands groups to nodes (firstboot.guests.groups), and the supervisor does the rest. So a
guest that is added or removed changes nothing in the stack, on no node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from firstboot.brief import Brief
    from firstboot.node import ThisNode
    from firstboot.probe.heartbeat import HeartbeatState


class ClusterStack(Protocol):
    """What a cluster stack must do for the pair.

    Beyond these it calls `xenpair group start|stop GROUP` when a node is to carry a group or not any more, on one node
    at a time, and asks `xenpair fence-peer` before it hands a lost node's groups to the other one.
    """

    files: ClassVar[Mapping[str, int]]
    """Configuration that each node gets from its template: path and mode."""
    read_at_start: ClassVar[frozenset[str]]
    """Those of them that it reads when it starts, and only then."""
    never_apart: ClassVar[frozenset[str]]
    """Those of them that no node can have differently from the other one, not even for a moment."""

    def start(self, node: ThisNode) -> None:
        """Write the configuration and start it. Idempotent; raises CommandError."""
        ...

    def restart(self) -> None:
        """Leave the peer in good order, and come back with the configuration as it is now; all groups are the peer's.

        Raises CommandError.
        """
        ...

    def state(self, peer: str) -> HeartbeatState:
        """How it is on this node, and whether it hears the peer."""
        ...

    def stand_by(self, brief: Brief) -> None:
        """Have all groups handed to the peer, which must be a member. Returns at once; raises CommandError."""
        ...

    def bring_home(self, brief: Brief) -> None:
        """Have this node's own group handed to it. Returns at once; raises CommandError."""
        ...


def stack() -> ClusterStack:
    """The one in force."""
    from firstboot.heartbeat import Heartbeat  # noqa: PLC0415 -- the implementation imports this interface's types

    return Heartbeat()
