"""The backing disk: found by its rule, refused unless blank, one GPT partition for DRBD, fresh metadata on it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import ClassVar

from config.door import run
from firstboot import observe
from firstboot.errors import BackingDiskError
from firstboot.journal import Journal
from firstboot.plan import backing
from firstboot.probe.disks import BlockDevice
from firstboot.steps import Work

LINUX_FILESYSTEM = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
"""GPT type of the partition (UEFI specification's registry, "Linux filesystem data")."""


def partition_path(partuuid: str) -> Path:
    """The stable name of the backing partition."""
    return Path("/dev/disk/by-partuuid", partuuid)


def own_partition(journal: Journal) -> Path | None:
    """The backing partition that this node has made, once it has."""
    partuuid = journal.detail(Disks.name).get("partuuid")
    return partition_path(partuuid) if partuuid else None


class Disks:
    """From a blank disk to DRBD metadata."""

    name: ClassVar[str] = "disks"
    text: ClassVar[str] = "find the backing disk, refuse one that is not blank, partition it, create DRBD metadata"

    def check(self, work: Work) -> bool:
        """Our partition is there, and carries valid metadata or is attached already."""
        partition = own_partition(work.journal)
        if partition is None or not partition.exists():
            return False
        return observe.drbd().connection != "Unconfigured" or observe.metadata(partition) is not None

    def apply(self, work: Work) -> None:
        """Partition a blank disk, or go on with our own half-made one. Raises BackingDiskError."""
        run(["udevadm", "settle", "--timeout=60"])
        rule = work.node.cluster.disk_rule(work.node.me, "backing")
        disk = backing.backing_disk(rule, observe.block_devices())
        begun = work.journal.detail(self.name)
        match backing.backing_partition(disk, observe.signatures(disk.path), begun):
            case backing.UsePartition():
                pass
            case backing.MakePartition():
                # The name of what we are about to make is written down first: so it is known as ours afterwards.
                partuuid = begun.get("partuuid") or str(uuid.uuid4())
                work.journal.write(self.name, "begun", serial=disk.serial, disk=disk.path, partuuid=partuuid)
                _partition(disk, partuuid, f"xenpair-{work.node.cluster.storage.drbd.resource}")
        partition = own_partition(work.journal)
        if partition is None or not partition.exists():
            raise BackingDiskError(f"{disk.path} was partitioned, and {partition} does not appear", hint="see `dmesg`")
        if observe.metadata(partition) is None:
            _create_metadata(partition)


def _partition(disk: BlockDevice, partuuid: str, name: str) -> None:
    script = f"label: gpt\ntype={LINUX_FILESYSTEM}, uuid={partuuid}, name={name}\n"
    run(["sfdisk", "--quiet", "--wipe", "never", "--wipe-partitions", "never", disk.path], stdin=script)
    run(["udevadm", "settle", "--timeout=60"])


def _create_metadata(partition: Path) -> None:
    found = observe.signatures(partition)
    if found:
        raise BackingDiskError(
            f"{partition} is not blank inside: {', '.join(map(str, found))}",
            hint=f"if nothing on it is needed, `wipefs --all {partition}`, then `xenpair resume`",
        )
    run(["drbdmeta", "0", "v08", partition, "internal", "create-md"])
