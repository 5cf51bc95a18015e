"""The decisions of first boot and of the storage unit. Pure: from what is wanted and what was seen, to what to do.

Nothing here runs a program or reads a file, so every combination of two nodes' states can be tested without a machine.
When in doubt a decision is a Refuse or a Wait, and it carries the sentence that the administrator will read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Literal

from config.model import Cluster, DiskRule, Node, format_size
from firstboot.errors import BackingDiskError, IdentityError
from firstboot.probe.disks import BlockDevice, Signature
from firstboot.probe.drbd import DrbdState


@dataclass(frozen=True)
class Wait:
    """Go on asking; reason says what is waited for."""

    reason: str


# --- Identity ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What a machine can be recognised by. nics: MAC address by interface name, physical cards only."""

    nics: Mapping[str, str]
    serial: str = ""
    uuid: str = ""

    def __str__(self) -> str:
        cards = ", ".join(f"{name} {mac}" for name, mac in sorted(self.nics.items())) or "none"
        return f"network cards: {cards}; DMI serial: {self.serial or 'none'}; DMI UUID: {self.uuid or 'none'}"


def _is(node: Node, machine: Machine) -> bool:
    match = node.match
    return (
        (match.mac is None or match.mac in machine.nics.values())
        and (match.serial is None or match.serial == machine.serial)
        and (match.uuid is None or match.uuid.lower() == machine.uuid.lower())
    )


def identity(cluster: Cluster, machine: Machine) -> Node:
    """Which node of the config this machine is. Raises IdentityError, with what was seen, unless exactly one fits."""
    nodes = [node for node in cluster.nodes if _is(node, machine)]
    if len(nodes) == 1:
        return nodes[0]
    found = f"matches {' and '.join(n.name for n in nodes)}" if nodes else "matches no node of the config"
    raise IdentityError(
        f"this machine {found}; seen: {machine}",
        hint="put what was seen under nodes[].match of the right node, so that exactly one fits",
    )


def nic(names: Mapping[str, str], node: Node, which: Literal["guest", "cluster"]) -> str:
    """Interface name of one of the node's cards. names: interface name by MAC address. Raises IdentityError."""
    mac = getattr(node.nics, which)
    if mac not in names:
        seen = ", ".join(f"{name} {m}" for m, name in sorted(names.items())) or "none"
        raise IdentityError(
            f"this machine is {node.name}, and has no network card {mac} for nics.{which}; seen: {seen}",
            hint=f"put the right MAC address under nics.{which} of {node.name}",
        )
    return names[mac]


# --- The backing disk -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UsePartition:
    """The journal says that this partition was made here."""

    partition: BlockDevice


@dataclass(frozen=True)
class MakePartition:
    """The disk is blank, or holds no more than our own half-made partition table."""

    disk: BlockDevice


def fits(rule: DiskRule, disk: BlockDevice) -> bool:
    """Whether a disk is what the rule means."""
    return (
        (rule.serial is None or fnmatchcase(disk.serial, rule.serial))
        and (rule.wwn is None or rule.wwn == disk.wwn)
        and (rule.model is None or fnmatchcase(disk.model, rule.model))
        and (rule.min_size is None or disk.size >= rule.min_size)
        and (rule.max_size is None or disk.size <= rule.max_size)
    )


def describe(disks: Sequence[BlockDevice]) -> str:
    """The disks as the administrator needs to see them to write a rule."""
    return (
        "; ".join(
            f"{d.path} ({format_size(d.size)}, serial {d.serial or 'none'}, wwn {d.wwn or 'none'}, "
            f"model {d.model or 'none'}{', in use' if d.in_use else ''})"
            for d in disks
        )
        or "no disk at all"
    )


def backing_disk(rule: DiskRule, devices: Sequence[BlockDevice]) -> BlockDevice:
    """The one disk that the rule means. Raises BackingDiskError for none, for several, or for one that is in use."""
    disks = [d for d in devices if d.type == "disk" and d.size > 0]
    matching = [d for d in disks if fits(rule, d)]
    if len(matching) != 1:
        found = "fits no disk" if not matching else f"fits {len(matching)} disks ({describe(matching)})"
        raise BackingDiskError(
            f"the backing rule {found}; it has to fit exactly one of: {describe(disks)}",
            hint="make storage.backing (or nodes[].disks.backing) name the one disk, best by its serial",
        )
    disk = matching[0]
    if disk.in_use:
        mounted = ", ".join(m for d in disk.walk() for m in d.mountpoints)
        raise BackingDiskError(
            f"the backing rule fits {disk.path}, which is in use: {mounted}",
            hint="that is the system disk or the install medium; make the rule name another disk",
        )
    if disk.read_only:
        raise BackingDiskError(f"the backing rule fits {disk.path}, which is read-only", hint="name another disk")
    return disk


OWN_TABLE = frozenset({"gpt", "PMBR"})
"""What a half-made partition table of our own leaves on a disk (wipefs's names)."""


def backing_partition(
    disk: BlockDevice, signatures: Sequence[Signature], begun: Mapping[str, str]
) -> UsePartition | MakePartition:
    """What to do with the backing disk, given what is on it and what the journal says was begun here.

    begun: the journal's details of the disks step (serial, partuuid), empty on a fresh node. Raises BackingDiskError
    when the disk holds anything that this node did not put there.
    """
    ours = bool(begun) and begun.get("serial") == disk.serial
    if ours:
        for child in disk.children:
            if child.partuuid == begun.get("partuuid"):
                return UsePartition(child)
        if not disk.children and {s.kind for s in signatures} <= OWN_TABLE:
            return MakePartition(disk)
    elif begun:
        raise BackingDiskError(
            f"first boot began with the disk of serial {begun.get('serial')!r}, now the rule fits {disk.path} "
            f"with serial {disk.serial!r}",
            hint="put the first disk back, or install this node anew",
        )
    found = [str(s) for s in signatures]
    found += [f"partition {c.path} ({c.fstype or c.partlabel or 'no file system'})" for c in disk.children]
    if found:
        raise BackingDiskError(
            f"{disk.path} (serial {disk.serial or 'none'}) is not blank: {', '.join(found)}",
            hint="if nothing on it is needed, clear it by hand (wipefs --all, and the same for its partitions), "
            "then `xenpair resume`",
        )
    return MakePartition(disk)


# --- DRBD -------------------------------------------------------------------------------------------------------------


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


def _percent(state: DrbdState) -> str:
    # In steps of ten: each new reason is a line on the console.
    return "" if state.synced is None else f" ({state.synced // 10 * 10:.0f} %)"


def next_storage_step(state: DrbdState, sync: InitialSync, first: bool) -> Next:
    """What the storage needs next. Never a promotion without the peer, and none by a timeout.

    first: this node is the config's first one, which does what must be done on one side only.
    """
    if state.role == "Primary" and state.disk == "UpToDate":
        return Up()
    if state.connection != "Connected":
        return Wait(_UNCONNECTED.get(state.connection, f"DRBD is {state.connection}") + _percent(state))
    if state.both_up_to_date:
        return Promote()
    if state.disk == state.peer_disk == "Inconsistent" and sync is InitialSync.SKIP:
        return DeclareEqual() if first else Wait("the first node declares both fresh sides equal")
    return Wait(f"DRBD is connected with {state.disk} here and {state.peer_disk} on the peer")


# --- LVM --------------------------------------------------------------------------------------------------------------


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


# --- The outline ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedStep:
    """A line of `xenpair plan`."""

    name: str
    text: str
    state: Literal["done", "next", "later"]


def outline(steps: Sequence[tuple[str, str]], done: Sequence[str]) -> tuple[PlannedStep, ...]:
    """The ordered steps (name, text) with what is done, what is next, and what comes later."""
    pending = [name for name, _ in steps if name not in done]
    following = pending[0] if pending else None
    return tuple(
        PlannedStep(name, text, "done" if name in done else "next" if name == following else "later")
        for name, text in steps
    )
