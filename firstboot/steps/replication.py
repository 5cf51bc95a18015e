"""DRBD: one resource over both backing partitions, Primary on both sides."""

from __future__ import annotations

import time
from typing import ClassVar

from config.door import run
from firstboot import observe, storage
from firstboot.errors import StorageError
from firstboot.plan import replication as plan
from firstboot.steps import Work

FILES = {"etc/drbd.d/global_common.conf": 0o644, "etc/drbd.d/xenpair.res": 0o600}
UNIT = "xenpair-storage.service"


class Replication:
    """From two partitions to one device. The storage unit does it, at this boot as at every later one."""

    name: ClassVar[str] = "drbd"
    text: ClassVar[str] = "connect, skip the initial sync only if both sides are fresh, Primary/Primary"

    def check(self, work: Work) -> bool:
        """Primary and UpToDate on this side, by the config in force."""
        state = observe.drbd()
        return work.node.is_deployed(FILES) and state.role == "Primary" and state.disk == "UpToDate"

    def apply(self, work: Work) -> None:
        """Start the unit and watch it; waits for the peer."""
        node = work.node
        node.deploy(FILES)
        run(["systemctl", "start", "--no-block", UNIT])
        sync = storage.recorded_sync(node.places)
        while True:
            wanted = plan.next_storage_step(observe.drbd(), sync, node.first, peer=node.peer.name)
            if isinstance(wanted, plan.Up):
                break
            if isinstance(wanted, plan.Wait):
                work.waiting(wanted.reason)
            if run(["systemctl", "is-failed", "--quiet", UNIT], check=False).returncode == 0:
                raise StorageError(f"{UNIT} failed", hint=f"see `journalctl -u {UNIT}`, then `xenpair resume`")
            time.sleep(1)
