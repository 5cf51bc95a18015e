"""What the replicated storage needs next: how two disks become one, and when a side may become Primary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from firstboot.errors import BackingDiskError
from firstboot.probe.disks import BlockDevice, Signature
from firstboot.probe.drbd import DrbdState


@dataclass(frozen=True)
class Wait:
    """Go on asking; reason says what is waited for."""

    reason: str


class InitialSync(Enum):
    """How two disks become one."""

    SKIP = "both sides' metadata is fresh: declare them equal without copying"
    FROM_PEER = "this side is fresh, the peer's is not: full resync from the peer"
    TO_PEER = "the peer's side is fresh, this one is not: full resync to the peer"
    AS_RECORDED = "both sides hold data: DRBD resyncs what its metadata says"


def initial_sync(mine_fresh: bool, peer_fresh: bool) -> InitialSync:
    """The only way to skip copying is that both nodes state that they have just made their metadata."""
    if mine_fresh:
        return InitialSync.SKIP if peer_fresh else InitialSync.FROM_PEER
    return InitialSync.TO_PEER if peer_fresh else InitialSync.AS_RECORDED


@dataclass(frozen=True)
class Promote:
    """Both disks are UpToDate and the nodes talk: become Primary."""


@dataclass(frozen=True)
class DeclareEqual:
    """Both sides are fresh and connected, and this node is the one that says so: new-current-uuid --clear-bitmap."""


@dataclass(frozen=True)
class Up:
    """Primary and UpToDate on this side; nothing left to do."""


Next = Wait | Promote | DeclareEqual | Up


_NO_PEER = "the peer's DRBD is not there yet; nothing is promoted without it"
_NO_TALK = "DRBD is not connected: it is just starting, or the two sides disagree (then `dmesg` says why)"
_RESYNC = "resync is running"
_UNCONNECTED = {
    "Unconfigured": "DRBD is not up",
    "StandAlone": _NO_TALK,
    **dict.fromkeys(("WFConnection", "WFReportParams", "Unconnected", "Disconnecting"), _NO_PEER),
    **dict.fromkeys(("Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError", "TearDown"), _NO_PEER),
    **dict.fromkeys(("WFBitMapS", "WFBitMapT", "WFSyncUUID", "StartingSyncS", "StartingSyncT"), _RESYNC),
    **dict.fromkeys(("SyncSource", "SyncTarget", "PausedSyncS", "PausedSyncT"), _RESYNC),
}
"""Connection states of DRBD 8.4 (drbd.conf user's guide, "Connection states") as a wait's reason."""


PROMOTABLE = ("UpToDate", "Consistent")
"""Disk states with which a side may become Primary once the peer is off; with any other one the peer has the data."""


def _alone(state: DrbdState, peer: str, peer_off: bool) -> Next:
    """Up, and the peer is not there: what may be done without it depends on what this side's disk is worth."""
    if state.disk not in PROMOTABLE:
        return Wait(f"{peer} is not there, and it has the data: this side's disk is {state.disk}")
    if peer_off:
        return Promote()
    # DRBD 8.4 attaches as UpToDate without the peer only where it has recorded that the peer is outdated
    # (MDF_PEER_OUT_DATED, drbd_nl.c); a side that does not know attaches as Consistent.
    newest = "this side went on last" if state.disk == "UpToDate" else f"{peer} may have gone on without this side"
    by_hand = f"if it stays off, `xenpair fence --confirm-peer-is-off {peer}`"
    return Wait(f"{peer} is not there; nothing is promoted without it; {newest}; {by_hand}")


def _percent(state: DrbdState) -> str:
    # In steps of ten: each new reason is a line on the console.
    return "" if state.synced is None else f" ({state.synced // 10 * 10:.0f} %)"


def next_storage_step(
    state: DrbdState, sync: InitialSync, first: bool, *, peer: str, peer_off: bool = False, refused: str = ""
) -> Next:
    """What the storage needs next. Never a promotion by a timeout, and none without the peer unless that is off.

    first: this node is the config's first one, which does what must be done on one side only. peer_off: the
    administrator has confirmed it; DRBD's own question after that (fence-peer) is what uses the word up. refused: why
    DRBD does not take the peer back, where that is known.
    """
    if state.role == "Primary" and state.disk == "UpToDate":
        return Up()
    if state.connection == "WFConnection":
        return Wait(_NO_PEER) if sync is InitialSync.SKIP else _alone(state, peer, peer_off)
    if state.connection != "Connected":
        usual = _UNCONNECTED.get(state.connection, f"DRBD is {state.connection}") + _percent(state)
        return Wait(refused if refused and state.connection == "StandAlone" else usual)
    if state.both_up_to_date:
        return Promote()
    if state.disk == state.peer_disk == "Inconsistent" and sync is InitialSync.SKIP:
        return DeclareEqual() if first else Wait("the first node declares both fresh sides equal")
    return Wait(f"DRBD is connected with {state.disk} here and {state.peer_disk} on the peer")


def absent(device: str, resource: str, devices: Sequence[BlockDevice], halves: Collection[str] = ()) -> str:
    """What to say while the backing device is not there: another node's may be, where somebody has swapped disks.

    halves: PARTUUIDs of this node's mirror, where that is the backing device.
    """
    named = f"the backing {'mirror' if halves else 'partition'} {device}"
    labelled = [part for disk in devices for part in disk.walk() if part.partlabel.startswith("xenpair-")]
    ours = [part for part in labelled if part.partuuid in halves]
    if ours:
        found = " and ".join(part.path for part in ours)
        return f"{named} does not run yet; of its halves {found} is there, which starts alone after 30 s"
    others = [part.path for part in labelled if part.partlabel.endswith(f"-{resource}")]
    if not others:
        return f"{named} is not there: is its disk plugged in, and does it answer?"
    found = " and ".join(others)
    return f"{named} is not there; {found} is not this node's: are the disks swapped?"


@dataclass(frozen=True)
class CreateVolumeGroup:
    """On one node only."""


@dataclass(frozen=True)
class UseVolumeGroup:
    """It is there; activate it."""


def volume_group(
    present: bool, sync: InitialSync, first: bool, signatures: Sequence[Signature]
) -> CreateVolumeGroup | UseVolumeGroup | Wait:
    """What this node does about the volume group on the replicated device.

    present: this node sees it. signatures: what wipefs finds on the replicated device. Raises BackingDiskError where
    something else is on it.
    """
    if present:
        return UseVolumeGroup()
    if sync is not InitialSync.SKIP:
        return Wait("the volume group is not on the replicated data; it was there before, so nothing is created")
    if not first:
        return Wait("the first node creates the volume group")
    foreign = [s for s in signatures if s.kind != "LVM2_member"]
    if foreign:
        raise BackingDiskError(f"the replicated device is not blank: {', '.join(map(str, foreign))}")
    return CreateVolumeGroup()
