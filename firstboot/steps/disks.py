"""The backing disk: found by its rule, refused unless blank, one GPT partition for DRBD, fresh metadata on it.

With raid1 there are two, each of them found, refused and partitioned like that, and a mirror of both partitions.

What it is about to do stands in the journal before it is done, so that no power cut makes it do a thing twice: the
disk's serial and the PARTUUID before the table is written, what a wipe erases before the first byte, and that it has
been erased before anything new is written; and of a mirror its UUID. Until the journal says that it was made there is
nothing on it, and it may be made anew; from then on its disks are not looked at any more.
"""

from __future__ import annotations

import logging
import time
import uuid
from pathlib import Path
from typing import ClassVar

from config.door import run, write_file
from config.model import DiskRule
from firstboot import mirrors, observe
from firstboot.errors import BackingDiskError, ProbeError
from firstboot.journal import Journal
from firstboot.plan import backing, mirror
from firstboot.probe.disks import BlockDevice, Contents, edge_ranges
from firstboot.steps import Work

log = logging.getLogger("xenpair")

LINUX_FILESYSTEM = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
"""GPT type of the partition (UEFI specification's registry, "Linux filesystem data")."""

HALVES = ("a.", "b.")
"""What the journal's keys of a half of a mirror begin with: the half whose serial comes first, and the other one."""

POLL = 1.0
"""Seconds between two looks for a mirror that udev has not put together yet."""


def partition_path(partuuid: str) -> Path:
    """The stable name of the backing partition."""
    return Path("/dev/disk/by-partuuid", partuuid)


def own_device(journal: Journal) -> Path | None:
    """What this node has made for DRBD, once it has: a partition, or a mirror."""
    detail = journal.detail(Disks.name)
    if "array" in detail:
        return mirror.array_path(detail["array"]) if "made" in detail else None
    return partition_path(detail["partuuid"]) if detail.get("partuuid") else None


class Disks:
    """From a blank disk, or two of them, to DRBD metadata."""

    name: ClassVar[str] = "disks"
    text: ClassVar[str] = "find the backing disk, refuse one that is not blank, partition it, create DRBD metadata"

    def check(self, work: Work) -> bool:
        """What we have made is there, and carries valid metadata or is attached already."""
        device = own_device(work.journal)
        return device is not None and observe.exists(device) and _has_metadata(device)

    def apply(self, work: Work) -> None:
        """Partition a blank disk, or go on with our own half-made one. Raises BackingDiskError."""
        observe.settle(work.waiting)
        rule = work.node.cluster.disk_rule(work.node.me, "backing")
        made = own_device(work.journal)
        if made is not None and "array" in work.journal.detail(self.name):
            _await_mirror(work, made)
        elif rule.raid1:
            self._make_mirror(work, rule)
        else:
            (disk,) = backing.backing_disks(rule, observe.block_devices())
            self._partition(work, rule, disk, self._decide(work, rule, disk))
        made = own_device(work.journal)
        if made is None or not observe.exists(made):
            raise BackingDiskError(f"the backing device was made, and {made} does not appear", hint="see `dmesg`")
        if not _has_metadata(made):
            _create_metadata(made)

    def _make_mirror(self, work: Work, rule: DiskRule) -> None:
        """Both halves are judged before either is written to."""
        disks = backing.backing_disks(rule, observe.block_devices())
        decisions = [self._decide(work, rule, disk, half) for half, disk in zip(HALVES, disks, strict=True)]
        for half, disk, decision in zip(HALVES, disks, decisions, strict=True):
            self._partition(work, rule, disk, decision, half)
        detail = work.journal.detail(self.name)
        array = detail.get("array") or mirror.new_array()
        if "array" not in detail:
            work.journal.write(self.name, "begun", array=array)
        first, second = (mirror.Half(detail[f"{half}serial"], detail[f"{half}partuuid"]) for half in HALVES)
        mirrors.write(work.node.places.mirror, mirror.Mirror(array, (first, second)))
        write_file(work.node.places.at(mirror.CONF), mirror.conf(array))
        run(["modprobe", "raid1"])
        for member in (first, second):
            mirrors.stop_holders(member)
        run(mirror.create_argv("backing", array, [first.partition, second.partition]))
        observe.settle(work.waiting)
        work.journal.write(self.name, "begun", made="yes")

    def _partition(
        self, work: Work, rule: DiskRule, disk: BlockDevice, decision: backing.Decision, half: str = ""
    ) -> None:
        """Do what was decided. half: what the journal's keys of this disk begin with."""
        match decision:
            case backing.UsePartition():
                pass
            case backing.AdoptPartition(partition):
                log.warning("%s is unused and has this cluster's name, so it is taken as our own", partition.path)
                _note(work, half, serial=disk.serial, disk=disk.path, partuuid=partition.partuuid, adopted="yes")
            case backing.WipeDisk(found=found):
                self._wipe(work, disk, found, half)
                again = backing.backing_disks(rule, observe.block_devices())
                self._make(work, next(d for d in again if d.serial == disk.serial), half)
            case backing.MakePartition():
                self._make(work, disk, half)

    def _history(self, work: Work, half: str) -> backing.History:
        journal = work.journal
        detail, done = journal.detail(self.name), journal.is_done(self.name)
        return backing.History.of(detail, half, done=done, rebuilt=journal.rebuilt)

    def _decide(self, work: Work, rule: DiskRule, disk: BlockDevice, half: str = "") -> backing.Decision:
        cluster, contents = work.node.cluster, observe.contents(disk)
        own = backing.own_partition(disk, cluster)
        return backing.backing_partition(
            disk,
            contents,
            self._history(work, half),
            cluster,
            unused=own is not None and _is_unused(own, disk, contents, mirrored=rule.raid1),
            wipe=backing.may_wipe(rule, disk),
        )

    def _wipe(self, work: Work, disk: BlockDevice, found: tuple[str, ...], half: str) -> None:
        """Erase what the disk is known by, and make sure that it is gone."""
        what = ", ".join(found)
        if not self._history(work, half).wiping:
            _note(work, half, serial=disk.serial, disk=disk.path, partuuid=str(uuid.uuid4()), wipe=what)
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

    def _make(self, work: Work, disk: BlockDevice, half: str) -> None:
        # The name of what we are about to make is written down first: so it is known as ours afterwards.
        history = self._history(work, half)
        partuuid = history.partuuid or str(uuid.uuid4())
        wiped = {"wiped": "yes"} if history.wiping else {}
        _note(work, half, serial=disk.serial, disk=disk.path, partuuid=partuuid, **wiped)
        type_ = mirror.LINUX_RAID if half else LINUX_FILESYSTEM
        partition(disk, partuuid, backing.partition_name(work.node.cluster), type_)


def _note(work: Work, half: str, **detail: str) -> None:
    work.journal.write(Disks.name, "begun", **{f"{half}{key}": value for key, value in detail.items()})


def _await_mirror(work: Work, device: Path) -> None:
    """Until udev has put the mirror together. Where one half is missing, mdadm starts the other one after 30 s."""
    while not observe.exists(device):
        work.waiting(f"the mirror {device} does not run yet: see `cat /proc/mdstat` and `lsblk`")
        time.sleep(POLL)


def _has_metadata(device: Path) -> bool:
    """Whether it carries metadata, or is attached, which it cannot be without."""
    if observe.drbd().connection != "Unconfigured":
        return True
    try:
        return observe.metadata(device) is not None
    except ProbeError:
        # The storage unit of a resumed node attaches it at any moment; from then on nobody else can open it.
        if observe.drbd().connection != "Unconfigured":
            return True
        raise


def _is_unused(partition: BlockDevice, disk: BlockDevice, contents: Contents, *, mirrored: bool) -> bool:
    """Whether a partition has never held data: it is empty, or its metadata knows of no generation.

    mirrored: it is to be half of a mirror, which begins with an empty one.
    """
    if contents.held:
        return False
    if backing.is_empty_inside(disk, contents):
        return True
    if mirrored or not backing.is_drbds_alone(contents):
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


def partition(disk: BlockDevice, partuuid: str, name: str, type_: str) -> None:
    """Write a table with one partition over all of a blank disk."""
    write_table(disk, f"label: gpt\ntype={type_}, uuid={partuuid}, name={name}\n")


def write_table(disk: BlockDevice, script: str) -> None:
    """Write a table (sfdisk(8), a script) to a blank disk, and nothing else."""
    run(["sfdisk", "--quiet", "--wipe", "never", "--wipe-partitions", "never", disk.path], stdin=script)
    observe.settle()


def _create_metadata(device: Path) -> None:
    found = observe.signatures(device)
    if found:
        raise BackingDiskError(
            f"{device} is not blank inside: {', '.join(map(str, found))}",
            hint=f"if nothing on it is needed, `wipefs --all {device}`, then `xenpair resume`",
        )
    run(["drbdmeta", "0", "v08", device, "internal", "create-md"])
