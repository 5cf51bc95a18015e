"""What `xenpair status` says: one record of this node, and how healthy that is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from config.errors import CommandError
from firstboot import mirrors, observe, split_brain
from firstboot.bmc import bmc_of
from firstboot.brief import Brief, FencingBrief, read_fencing_brief
from firstboot.errors import BmcError
from firstboot.fencing import UNIT, awaits_proof, hears_peer, in_flight, read_fencing_progress
from firstboot.guests import held, xl
from firstboot.guests.registry import registry
from firstboot.journal import kept_aside
from firstboot.places import Places
from firstboot.plan import mirror
from firstboot.probe.drbd import DrbdState
from firstboot.probe.heartbeat import HeartbeatState
from firstboot.probe.lvm import VolumeGroup
from firstboot.report import Progress, State, awaited_machine, read_progress
from firstboot.split_brain import SplitBrainStatus

GLANCE = 20.0
"""Seconds for LVM to answer: a vgs needs one of them on an emulated node, and none at all answers on a frozen one."""

EXIT_HEALTHY, EXIT_FAILED, EXIT_DEGRADED = 0, 1, 2


@dataclass(frozen=True)
class FirstBootStatus:
    """state: running, waiting, failed or done; step and error: where it stands and why; resumed_at: or empty.

    damaged_journals: files that were kept when the journal had to be rebuilt, until the administrator removes them.
    """

    state: State
    step: str = ""
    error: str = ""
    resumed_at: str = ""
    damaged_journals: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrbdStatus:
    """DRBD's own words; suspended: I/O is frozen."""

    connection: str
    role: str
    peer_role: str
    disk: str
    peer_disk: str
    suspended: bool = False


@dataclass(frozen=True)
class LvmStatus:
    """Name of the volume group where this node sees it on the replicated device, else null; its change counter."""

    volume_group: str | None
    seqno: int | None = None


@dataclass(frozen=True)
class HeartbeatStatus:
    """stopped, starting, alone or up."""

    state: HeartbeatState


@dataclass(frozen=True)
class FencingStatus:
    """state: ready, by-hand (no BMC in the config), unready, or of an incident: pursuing, holding, proven; and why."""

    state: Literal["ready", "by-hand", "unready", "pursuing", "holding", "proven", "unknown"]
    reason: str = ""


@dataclass(frozen=True)
class MirrorStatus:
    """state: whole, copying, rebuilding, degraded, stopped or outdated, or none on a node without a mirror.

    lost: serials of the disks that are not in it; percent: of the copying that goes on, else null; reason: what to do.
    """

    state: mirror.State | Literal["none"] = "none"
    lost: tuple[str, ...] = ()
    percent: int | None = None
    reason: str = ""

    @property
    def sound(self) -> bool:
        """Whether each write goes to two disks."""
        return self.state in ("none", "whole", "copying")


@dataclass(frozen=True)
class GuestStatus:
    """running_on: this node's name, or null where it does not run here or Xen does not answer.

    `xenpair guest list` asks both nodes. wanted: running or stopped; held: why it has to wait here, or empty.
    """

    name: str
    home: str
    running_on: str | None
    wanted: str = "running"
    held: str = ""


@dataclass(frozen=True)
class Status:
    """One node's view."""

    node: str
    health: Literal["healthy", "degraded", "failed"]
    firstboot: FirstBootStatus
    drbd: DrbdStatus
    lvm: LvmStatus
    heartbeat: HeartbeatStatus
    fencing: FencingStatus = FencingStatus("unknown")
    split_brain: SplitBrainStatus = split_brain.NONE
    mirror: MirrorStatus = MirrorStatus()
    system_mirror: MirrorStatus = MirrorStatus()
    guests: tuple[GuestStatus, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 healthy, 2 degraded, 1 failed."""
        return {"healthy": EXIT_HEALTHY, "degraded": EXIT_DEGRADED, "failed": EXIT_FAILED}[self.health]


def health(
    firstboot: State,
    drbd: DrbdState,
    group_seen: bool,
    heartbeat: HeartbeatState,
    fencing: FencingStatus,
    *,
    parted: bool = False,
    held: bool = False,
    mirrored: bool = True,
) -> Literal["healthy", "degraded", "failed"]:
    """failed: this node cannot serve. degraded: it can, or will by itself, and something is missing. Else healthy."""
    if firstboot == "failed" or parted:
        return "failed"
    if firstboot == "done" and (drbd.disk in ("Failed", "Diskless") or drbd.connection == "StandAlone"):
        return "failed"
    roles = (drbd.role, drbd.peer_role)
    whole = drbd.both_up_to_date and roles == ("Primary", "Primary") and not drbd.suspended
    sound = whole and group_seen and heartbeat == "up" and fencing.state in ("ready", "by-hand") and not held
    sound = sound and mirrored
    return "healthy" if firstboot == "done" and sound else "degraded"


def fencing_status(drbd: DrbdState, places: Places) -> FencingStatus:
    """How an incident stands; without one, whether the peer's BMC would answer, and is the peer's at all."""
    brief = read_fencing_brief(places.fencing)
    if brief is None:
        return FencingStatus("unknown", "first boot has not come that far")
    connected = hears_peer(drbd)
    if awaits_proof(drbd, places) and not connected and not in_flight(places):
        return FencingStatus("unready", f"I/O is frozen and nobody asks for proof: `systemctl start {UNIT}`")
    progress = read_fencing_progress(places)
    if not connected and progress is not None and progress.state != "withdrawn":
        return FencingStatus(progress.state, progress.reason)
    return _readiness(brief, connected=connected)


def _readiness(brief: FencingBrief, *, connected: bool) -> FencingStatus:
    if brief.bmc is None:
        return FencingStatus(
            "by-hand",
            f"{brief.peer} has no BMC in the config: if it is lost, storage freezes until a "
            f"person confirms that it is off",
        )
    try:
        power = bmc_of(brief.bmc).power()
    except BmcError as e:
        return FencingStatus("unready", f"the BMC of {brief.peer} ({brief.bmc.address}): {e.message}")
    if connected and power == "off":
        return FencingStatus(
            "unready", f"{brief.bmc.address} is not the BMC of {brief.peer}: it says off, and {brief.peer} is there"
        )
    return FencingStatus("ready")


def firstboot_status(places: Places) -> FirstBootStatus:
    """From the formed mark, else from the progress of this boot, or from what `xenpair replace` has begun."""
    progress = read_progress(places.progress) or Progress("running")
    damaged = tuple(str(path) for path in kept_aside(places.journal))
    if places.formed.exists():
        return FirstBootStatus(state="done", resumed_at=progress.resumed_at, damaged_journals=damaged)
    machine = awaited_machine(places)
    if machine is not None and progress.state in ("running", "done"):
        # The progress is of the time before, or first boot has only begun to look at what is all there already.
        progress = Progress("waiting", "join", machine)
    return FirstBootStatus(
        state=progress.state,
        step=progress.step,
        error=progress.error,
        resumed_at=progress.resumed_at,
        damaged_journals=damaged,
    )


def mirror_status(record: Path) -> MirrorStatus:
    """How the mirror of that record is. Raises NodeError."""
    found = mirrors.status(record)
    if found is None:
        return MirrorStatus()
    known, now = found
    return MirrorStatus(now.state, now.lost, now.percent, mirror.advice(now, known))


def status_of(brief: Brief, places: Places) -> Status:
    """Look at this node now. Raises ProbeError or CommandError where a tool says what we do not understand."""
    first_boot, drbd = firstboot_status(places), observe.drbd()
    group: VolumeGroup | None = None
    guests: tuple[GuestStatus, ...] = ()
    if drbd.role == "Primary" and not drbd.suspended:
        try:
            group = observe.volume_groups(GLANCE).get(brief.volume_group)
            guests = guests_status(brief, places) if group is not None else ()
        except CommandError:
            # It may have been frozen since; then whoever reads from it waits for as long.
            drbd = observe.drbd()
            if not drbd.suspended:
                raise
            group, guests = None, ()
    heartbeat = observe.heartbeat(brief.peer)
    fencing = fencing_status(drbd, places)
    parted = split_brain.status(brief, places, drbd)
    mirrored = mirror_status(places.mirror)
    system = mirror_status(places.system_mirror)
    return Status(
        node=brief.node,
        health=health(
            first_boot.state,
            drbd,
            group is not None,
            heartbeat,
            fencing,
            parted=parted.state == "detected",
            held=any(guest.held for guest in guests),
            mirrored=mirrored.sound and system.sound,
        ),
        firstboot=first_boot,
        drbd=DrbdStatus(drbd.connection, drbd.role, drbd.peer_role, drbd.disk, drbd.peer_disk, drbd.suspended),
        lvm=LvmStatus(group.name if group else None, group.seqno if group else None),
        heartbeat=HeartbeatStatus(heartbeat),
        fencing=fencing,
        split_brain=parted,
        mirror=mirrored,
        system_mirror=system,
        guests=guests,
    )


def guests_status(brief: Brief, places: Places) -> tuple[GuestStatus, ...]:
    """All guests, as this node sees them. Raises CommandError, ProbeError."""
    found = registry(brief.volume_group, GLANCE)
    if not found:
        return ()
    try:
        here = {domain.name for domain in xl.domains() if not domain.ended}
    except CommandError:
        here = set()
    waiting = held.read(places)
    return tuple(
        GuestStatus(
            guest.name,
            guest.definition.home,
            brief.node if guest.name in here else None,
            guest.definition.wanted,
            waiting.get(guest.name, ""),
        )
        for guest in sorted(found, key=lambda guest: guest.name)
    )


def without_identity(places: Places, host: str) -> Status:
    """The status of a node that does not know yet which node it is."""
    first_boot = firstboot_status(places)
    return Status(
        node=host,
        health="failed" if first_boot.state == "failed" else "degraded",
        firstboot=first_boot,
        drbd=DrbdStatus("Unconfigured", "Unknown", "Unknown", "DUnknown", "DUnknown"),
        lvm=LvmStatus(None),
        heartbeat=HeartbeatStatus("stopped"),
    )


def as_json(status: Status) -> str:
    """For scripts; the keys are a contract."""
    return json.dumps(asdict(status), indent=1)


def as_text(status: Status) -> str:
    """A few lines for people."""
    first = status.firstboot
    where = " ".join(part for part in (first.state, first.step and f"at {first.step}") if part)
    lines = [
        f"{status.node}: {status.health}",
        f"  first boot   {where}" + (f" (resumed at {first.resumed_at})" if first.resumed_at else ""),
    ]
    lines += [f"               {line}" for line in first.error.splitlines()]
    lines += [f"               the journal was damaged, and rebuilt; kept as {path}" for path in first.damaged_journals]
    drbd = status.drbd
    lines += [
        f"  DRBD         {drbd.connection}, {drbd.role}/{drbd.peer_role}, {drbd.disk}/{drbd.peer_disk}"
        + (", I/O is frozen" if drbd.suspended else ""),
        *(f"               {line}" for line in status.split_brain.reason.splitlines()),
        *_mirror_lines("mirror", status.mirror),
        *_mirror_lines("system", status.system_mirror),
        f"  LVM          {status.lvm.volume_group or 'volume group not seen'}",
        f"  heartbeat    {status.heartbeat.state}",
        f"  fencing      {status.fencing.state}",
    ]
    lines += [f"               {line}" for line in status.fencing.reason.splitlines()]
    for guest in status.guests:
        where = "runs here" if guest.running_on else "stopped" if guest.wanted == "stopped" else "not here"
        lines.append(
            f"  guest        {guest.name}: home {guest.home}, {f'held: {guest.held}' if guest.held else where}"
        )
    return "\n".join(lines)


def _mirror_lines(name: str, found: MirrorStatus) -> list[str]:
    if found.state == "none":
        return []
    percent = "" if found.percent is None else f" ({found.percent} %)"
    return [f"  {name}       {found.state}{percent}", *([f"               {found.reason}"] if found.reason else [])]
