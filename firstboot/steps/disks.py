"""The backing disk: found by its rule, refused unless blank, one GPT partition for DRBD, fresh metadata on it.

What it is about to do stands in the journal before it is done, so that no power cut makes it do a thing twice: the
disk's serial and the PARTUUID before the table is written, what a wipe erases before the first byte, and that it has
been erased before anything new is written.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import ClassVar

from config.door import run
from config.model import DiskRule
from firstboot import observe
from firstboot.errors import BackingDiskError, ProbeError
from firstboot.journal import Journal
from firstboot.plan import backing
from firstboot.probe.disks import BlockDevice, Contents, edge_ranges
from firstboot.steps import Work

log = logging.getLogger("xenpair")

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
        return partition is not None and observe.exists(partition) and _has_metadata(partition)

    def apply(self, work: Work) -> None:
        """Partition a blank disk, or go on with our own half-made one. Raises BackingDiskError."""
        observe.settle(work.waiting)
        rule = work.node.cluster.disk_rule(work.node.me, "backing")
        disk = backing.backing_disk(rule, observe.block_devices())
        match self._decide(work, rule, disk):
            case backing.UsePartition():
                pass
            case backing.AdoptPartition(partition):
                log.warning("%s is unused and has this cluster's name, so it is taken as our own", partition.path)
                work.journal.write(
                    self.name, "begun", serial=disk.serial, disk=disk.path, partuuid=partition.partuuid, adopted="yes"
                )
            case backing.WipeDisk(found=found):
                self._wipe(work, disk, found)
                self._make(work, backing.backing_disk(rule, observe.block_devices()))
            case backing.MakePartition():
                self._make(work, disk)
        made = own_partition(work.journal)
        if made is None or not observe.exists(made):
            raise BackingDiskError(f"{disk.path} was partitioned, and {made} does not appear", hint="see `dmesg`")
        if not _has_metadata(made):
            _create_metadata(made)

    def _history(self, work: Work) -> backing.History:
        journal = work.journal
        return backing.History.of(journal.detail(self.name), done=journal.is_done(self.name), rebuilt=journal.rebuilt)

    def _decide(self, work: Work, rule: DiskRule, disk: BlockDevice) -> backing.Decision:
        cluster, contents = work.node.cluster, observe.contents(disk)
        own = backing.own_partition(disk, cluster)
        return backing.backing_partition(
            disk,
            contents,
            self._history(work),
            cluster,
            unused=own is not None and _is_unused(own, disk, contents),
            wipe=backing.may_wipe(rule, disk),
        )

    def _wipe(self, work: Work, disk: BlockDevice, found: tuple[str, ...]) -> None:
        """Erase what the disk is known by, and make sure that it is gone."""
        what = ", ".join(found)
        if not self._history(work).wiping:
            work.journal.write(
                self.name, "begun", serial=disk.serial, disk=disk.path, partuuid=str(uuid.uuid4()), wipe=what
            )
        log.warning("erasing %s (serial %s), as the config says: %s", disk.path, disk.serial, what)
        _erase(disk)
        again = next((d for d in observe.block_devices() if d.path == disk.path), disk)
        contents = observe.contents(again)
        if not backing.is_blank(again, contents):
            raise BackingDiskError(
                f"{disk.path} (serial {disk.serial}) was erased, and still shows: "
                f"{', '.join(backing.findings(again, contents))}",
                hint=f"clear it by hand, then `xenpair resume`: {backing.by_hand(again)}",
            )

    def _make(self, work: Work, disk: BlockDevice) -> None:
        # The name of what we are about to make is written down first: so it is known as ours afterwards.
        history = self._history(work)
        partuuid = history.partuuid or str(uuid.uuid4())
        wiped = {"wiped": "yes"} if history.wiping else {}
        work.journal.write(self.name, "begun", serial=disk.serial, disk=disk.path, partuuid=partuuid, **wiped)
        _partition(disk, partuuid, backing.partition_name(work.node.cluster))


def _has_metadata(partition: Path) -> bool:
    """Whether it carries metadata, or is attached, which it cannot be without."""
    if observe.drbd().connection != "Unconfigured":
        return True
    try:
        return observe.metadata(partition) is not None
    except ProbeError:
        # The storage unit of a resumed node attaches it at any moment; from then on nobody else can open it.
        if observe.drbd().connection != "Unconfigured":
            return True
        raise


def _is_unused(partition: BlockDevice, disk: BlockDevice, contents: Contents) -> bool:
    """Whether a partition has never held data: it is empty, or its metadata knows of no generation."""
    if contents.held:
        return False
    if backing.is_empty_inside(disk, contents):
        return True
    if not backing.is_drbds_alone(contents):
        return False
    metadata = observe.metadata(partition.path)
    return metadata is not None and metadata.fresh


def _erase(disk: BlockDevice) -> None:
    parts = [device.path for device in disk.walk() if device.type == "part"]
    for path in (*reversed(parts), disk.path):
        run(["wipefs", "--all", path])
    for offset, length in edge_ranges(disk.size):
        run(["blkdiscard", "--zeroout", "--offset", str(offset), "--length", str(length), disk.path])
    run(["sync", disk.path])
    observe.settle()


def _partition(disk: BlockDevice, partuuid: str, name: str) -> None:
    script = f"label: gpt\ntype={LINUX_FILESYSTEM}, uuid={partuuid}, name={name}\n"
    run(["sfdisk", "--quiet", "--wipe", "never", "--wipe-partitions", "never", disk.path], stdin=script)
    observe.settle()


def _create_metadata(partition: Path) -> None:
    found = observe.signatures(partition)
    if found:
        raise BackingDiskError(
            f"{partition} is not blank inside: {', '.join(map(str, found))}",
            hint=f"if nothing on it is needed, `wipefs --all {partition}`, then `xenpair resume`",
        )
    run(["drbdmeta", "0", "v08", partition, "internal", "create-md"])
