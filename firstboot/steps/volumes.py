"""LVM: the volume group on the replicated device, created on one node only and seen from both."""

from __future__ import annotations

import time
from typing import ClassVar

from firstboot import lvm, observe, storage
from firstboot.plan import replication as plan
from firstboot.steps import Work


class Volumes:
    """pvcreate and vgcreate, or a look at what the peer has created."""

    name: ClassVar[str] = "lvm"
    text: ClassVar[str] = "volume group on the replicated device: created by the first node, scanned by the second"

    def check(self, work: Work) -> bool:
        """This node sees the group on the replicated device."""
        group = observe.volume_groups().get(work.node.cluster.storage.volume_group)
        return group is not None and group.physical_volume == str(observe.DRBD_DEVICE)

    def apply(self, work: Work) -> None:
        """Create, or wait for the node that does."""
        name = work.node.cluster.storage.volume_group
        sync = storage.recorded_sync(work.node.places)
        while True:
            present = self.check(work)
            found = () if present else observe.signatures(observe.DRBD_DEVICE)
            match plan.volume_group(present, sync, work.node.first, found):
                case plan.UseVolumeGroup():
                    storage.activate(name)
                    return
                case plan.CreateVolumeGroup():
                    lvm.change("pvcreate", "--yes", observe.DRBD_DEVICE)
                    lvm.change("vgcreate", name, observe.DRBD_DEVICE)
                case plan.Wait(reason):
                    work.waiting(reason)
                    time.sleep(1)
