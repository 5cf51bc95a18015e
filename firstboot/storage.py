"""The replicated storage: up at every boot, promoted only when both disks are UpToDate, down in good order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from config.door import run
from config.errors import CommandError
from firstboot import fencing, mirrors, observe, split_brain
from firstboot.brief import Brief, both_fresh
from firstboot.errors import SplitBrainError, StorageError
from firstboot.places import Places
from firstboot.plan.replication import (
    DeclareEqual,
    InitialSync,
    Promote,
    Up,
    Wait,
    absent,
    initial_sync,
    next_storage_step,
)
from firstboot.probe.drbd import UUID_JUST_CREATED

POLL = 0.5
"""Seconds between two looks at /proc/drbd."""

DISK_POLL = 2.0
"""Seconds between two looks for a backing disk that is not there."""

ATTEMPTS = 5
"""How often `drbdadm adjust` may fail: it gives each of its helpers 5 s, which a node under emulation can exceed."""

PROMOTION_LIMIT = 660.0
"""Seconds: the kernel asks fence-peer first where the peer is lost, and drbdadm gives that handler 600."""

HANDED_SECRET = r"--shared-secret=\S+"  # noqa: S105  a pattern
"""What drbdadm hands to its helper, and prints when the helper fails."""

KERNEL_MODULES = ("drbd", "sha256", "crc32c")
"""The driver, and what its net options name: loaded before, so that no helper of drbdadm has to wait for them."""


def bring_up(brief: Brief, places: Places, waiting: Callable[[str], None]) -> None:
    """Attach, connect, and become Primary as soon as that is safe; waits for the peer as long as that takes.

    Or as soon as the administrator has confirmed that the peer is off. waiting is told each new reason for a wait.
    Raises CommandError or StorageError.
    """
    sync = recorded_sync(places)
    refusal = split_brain.Refusal(brief, places)
    run(["modprobe", "--all", *KERNEL_MODULES])
    if observe.drbd().connection == "Unconfigured":
        _await_disk(brief.resource, places, waiting)
        mirrors.admit(places, waiting, lambda: time.sleep(DISK_POLL))
        adjust(brief.resource)
    while True:
        state = observe.drbd()
        if fencing.hears_peer(state):
            fencing.forget(places)
        confirmed = places.confirmation.exists()
        match next_storage_step(
            state, sync, brief.first, peer=brief.peer, peer_off=confirmed, refused=refusal.reason(state)
        ):
            case Up():
                return
            case Promote():
                _promote(brief.resource, waiting)
            case DeclareEqual():
                _declare_equal(brief.resource)
            case Wait(reason):
                waiting(reason)
                if refusal.has_passed():
                    _meet_again(brief)
                time.sleep(POLL)


def _meet_again(brief: Brief) -> None:
    """Let go of what DRBD has dropped for good, on both sides: if it still refuses, it says so once more.

    One attempt: the caller comes round again.
    """
    with contextlib.suppress(SplitBrainError):
        split_brain.ask(brief, "meet")
    run(["drbdadm", "connect", brief.resource], check=False, blot=[HANDED_SECRET])


def _promote(resource: str, waiting: Callable[[str], None]) -> None:
    """Ask to become Primary. The kernel refuses when the peer asks at the same moment: then the caller looks again."""
    output = run(["drbdadm", "primary", resource], check=False, timeout=PROMOTION_LIMIT)
    if output.returncode != 0:
        waiting(f"DRBD refused the promotion, trying again: {' '.join(output.stderr.split())}")
        time.sleep(POLL)


def _await_disk(resource: str, places: Places, waiting: Callable[[str], None]) -> None:
    """Until the backing device is there: a disk may answer late, or be plugged in by somebody."""
    device = Path(run(["drbdadm", "sh-ll-dev", resource]).stdout.strip())
    mirror = mirrors.read(places.mirror)
    halves = [half.partuuid for half in mirror.halves] if mirror else []
    while not device.exists():
        waiting(absent(str(device), resource, observe.block_devices(), halves))
        time.sleep(DISK_POLL)


def adjust(resource: str) -> None:
    """Make the kernel's view of the resource that of its file: attach and connect what is not."""
    for attempt in range(ATTEMPTS):
        try:
            run(["drbdadm", "adjust", resource], blot=[HANDED_SECRET])
        except CommandError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(POLL)
        else:
            return


def recorded_sync(places: Places) -> InitialSync:
    """How the two disks become one: by what both nodes stated in the join, and only until first boot is done."""
    fresh = both_fresh(places.join)
    if fresh is None or places.formed.exists():
        return InitialSync.AS_RECORDED
    return initial_sync(*fresh)


def _declare_equal(resource: str) -> None:
    """Skip the initial sync, after a last look at our own side: it must never have held a generation of data."""
    current = run(["drbdadm", "get-gi", resource]).stdout.partition(":")[0]
    if int(current, 16) != UUID_JUST_CREATED:
        raise StorageError(
            f"both sides are Inconsistent, yet this side's data has a generation ({current})",
            hint="nothing is declared equal that was ever in use; see `drbdadm get-gi` on both nodes",
        )
    run(["drbdadm", "new-current-uuid", "--clear-bitmap", f"{resource}/0"])


def activate(volume_group: str) -> None:
    """Make the logical volumes of the group usable on this node. Raises StorageError where there is no such group."""
    try:
        run(["vgchange", "--activate", "y", volume_group])
    except CommandError as e:
        if volume_group in observe.volume_groups():
            raise
        raise StorageError(
            f"{observe.DRBD_DEVICE} is up, and LVM finds no volume group {volume_group} on it; nothing was changed",
            hint=f"/etc/lvm/backup/{volume_group} on both nodes has what they last knew of it: docs/plugs.md, "
            "A volume group that is not found",
        ) from e


def take_down(brief: Brief, end_guests: Callable[[], None]) -> None:
    """Have the guests that are still here ended, deactivate, demote, disconnect, detach.

    Raises CommandError where something still uses the storage, StorageError where its I/O is frozen: that ends with the
    power, and the next boot waits for the peer.
    """
    state = observe.drbd()
    if state.connection == "Unconfigured":
        return
    if state.suspended:
        raise StorageError(
            "I/O is frozen, so the storage cannot be taken down in good order", hint="see `xenpair status`"
        )
    if state.role == "Primary":
        if brief.volume_group in observe.volume_groups():
            end_guests()
            run(["vgchange", "--activate", "n", brief.volume_group])
        run(["drbdadm", "secondary", brief.resource])
    run(["drbdadm", "down", brief.resource])
