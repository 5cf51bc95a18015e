"""What DRBD alone says of the peer: there, proven off, or nobody knows. Pure.

It is the one witness that cannot be wrong in the dangerous way: with fencing resource-and-stonith it freezes I/O of a
Primary in the same moment in which it loses the peer, and lets go only once the peer is proven off or back.
"""

from __future__ import annotations

from typing import Literal

from firstboot.probe.drbd import DrbdState

PeerState = Literal["connected", "off", "unknown"]

ALONE = ("WFConnection", "StandAlone", "Unconnected")
"""Connections in which DRBD goes on without the peer. In the others that have no peer it is just losing it, or shaking
hands with something that answers."""


def peer_state(drbd: DrbdState, *, split: bool = False) -> PeerState:
    """connected: DRBD hears the peer; off: it was proven off, and DRBD goes on without it; unknown: all else.

    split: DRBD has found a split brain, so the peer has gone on alone as well, and is anything but off.
    """
    if drbd.peer_role in ("Primary", "Secondary"):
        # As firstboot.fencing.hears_peer: they have agreed who they are.
        return "connected"
    alone = drbd.role == "Primary" and not drbd.suspended and drbd.connection in ALONE
    return "off" if alone and not split else "unknown"


def shared_change_obstacle(drbd: DrbdState) -> str:
    """Why no volume can be made, resized or removed now; empty where it can be. Both nodes take part in that."""
    if drbd.role == "Primary" == drbd.peer_role and drbd.both_up_to_date and not drbd.suspended:
        return ""
    return f"both nodes must be Primary, UpToDate and Connected for it, and {in_words(drbd)}"


def note_obstacle(drbd: DrbdState, peer: PeerState) -> str:
    """Why no tag can be changed now; empty where it can be.

    A peer that is Secondary cannot open the device, and reads the metadata anew once it can: so a survivor may note
    what becomes of its guests while the peer is filled up, which can take hours.
    """
    if drbd.role != "Primary" or drbd.disk != "UpToDate" or drbd.suspended:
        return f"this node must be Primary and UpToDate for it, and {in_words(drbd)}"
    if peer == "off" or drbd.peer_role == "Secondary" or (peer == "connected" and drbd.peer_disk == "UpToDate"):
        return ""
    return f"the peer must be UpToDate, or proven off, for it, and {in_words(drbd)}"


def in_words(drbd: DrbdState) -> str:
    """What DRBD says, for an error's text."""
    frozen = ", I/O frozen" if drbd.suspended else ""
    return f"DRBD is {drbd.connection}, {drbd.role}/{drbd.peer_role}, {drbd.disk}/{drbd.peer_disk}{frozen}"
