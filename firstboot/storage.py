"""The replicated storage: up at every boot, promoted only when both disks are UpToDate, down in good order."""

from __future__ import annotations

import time
from collections.abc import Callable

from config.door import run
from config.errors import CommandError
from firstboot import observe
from firstboot.errors import StorageError
from firstboot.node import ThisNode
from firstboot.plan import DeclareEqual, InitialSync, Promote, Up, Wait, initial_sync, next_storage_step
from firstboot.probe.drbd import UUID_JUST_CREATED

POLL = 0.5
"""Seconds between two looks at /proc/drbd."""

ATTEMPTS = 5
"""How often `drbdadm adjust` may fail: it gives each of its helpers 5 s, which a node under emulation can exceed."""

KERNEL_MODULES = ("drbd", "sha256", "crc32c")
"""The driver, and what its net options name: loaded before, so that no helper of drbdadm has to wait for them."""


def bring_up(node: ThisNode, sync: InitialSync, waiting: Callable[[str], None]) -> None:
    """Attach, connect, and become Primary as soon as that is safe; waits for the peer as long as that takes.

    waiting is told each new reason for a wait. Raises CommandError or StorageError.
    """
    resource = node.cluster.storage.drbd.resource
    run(["modprobe", "--all", *KERNEL_MODULES])
    if observe.drbd().connection == "Unconfigured":
        _adjust(node)
    while True:
        match next_storage_step(observe.drbd(), sync, node.first):
            case Up():
                return
            case Promote():
                run(["drbdadm", "primary", resource])
            case DeclareEqual():
                _declare_equal(resource)
            case Wait(reason):
                waiting(reason)
                time.sleep(POLL)


def _adjust(node: ThisNode) -> None:
    """Make the kernel's view of the resource that of its file: attach and connect what is not."""
    for attempt in range(ATTEMPTS):
        try:
            # drbdadm hands the shared secret to its helper, and prints the helper's arguments when that fails.
            run(["drbdadm", "adjust", node.cluster.storage.drbd.resource], secrets=[node.secrets.drbd])
        except CommandError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(POLL)
        else:
            return


def recorded_sync(node: ThisNode) -> InitialSync:
    """How the two disks become one: by what both nodes stated in the join, and only until first boot is done."""
    record = node.join_record()
    if record is None or node.places.formed.exists():
        return InitialSync.AS_RECORDED
    return initial_sync(record.mine.fresh, record.peer.fresh)


def _declare_equal(resource: str) -> None:
    """Skip the initial sync, after a last look at our own side: it must never have held a generation of data."""
    current = run(["drbdadm", "get-gi", resource]).stdout.partition(":")[0]
    if int(current, 16) != UUID_JUST_CREATED:
        raise StorageError(
            f"both sides are Inconsistent, yet this side's data has a generation ({current})",
            hint="nothing is declared equal that was ever in use; see `drbdadm get-gi` on both nodes",
        )
    run(["drbdadm", "new-current-uuid", "--clear-bitmap", f"{resource}/0"])


def activate(node: ThisNode) -> None:
    """Make the logical volumes of the group usable on this node."""
    run(["vgchange", "--activate", "y", node.cluster.storage.volume_group])


def take_down(node: ThisNode) -> None:
    """Deactivate, demote, disconnect, detach. Raises CommandError where something still uses the storage."""
    if observe.drbd().connection == "Unconfigured":
        return
    if observe.drbd().role == "Primary":
        if node.cluster.storage.volume_group in observe.volume_groups():
            run(["vgchange", "--activate", "n", node.cluster.storage.volume_group])
        run(["drbdadm", "secondary", node.cluster.storage.drbd.resource])
    run(["drbdadm", "down", node.cluster.storage.drbd.resource])
