"""Which disk, or mirrored pair of disks, goes below DRBD, and whether it may be written to at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config.diskrules import is_exact, names_each_disk
from config.model import Cluster, DiskRule
from firstboot.errors import BackingDiskError
from firstboot.plan.disk_choice import choose, named, unusable
from firstboot.probe.disks import BlockDevice, Contents, edge_ranges

NAME_LENGTH = 36
"""Characters of a partition's name (UEFI specification, GPT partition entry: 72 bytes of UTF-16)."""


@dataclass(frozen=True)
class UsePartition:
    """The journal says that this partition was made here."""

    partition: BlockDevice


@dataclass(frozen=True)
class AdoptPartition:
    """The journal says nothing of it, but its name is this cluster's, and it has never held data: it is ours."""

    partition: BlockDevice


@dataclass(frozen=True)
class MakePartition:
    """The disk is blank, or holds no more than our own half-made partition table."""

    disk: BlockDevice


@dataclass(frozen=True)
class WipeDisk:
    """The disk holds what found says, its rule says wipe and names its serial, and that has not happened yet."""

    disk: BlockDevice
    found: tuple[str, ...]


Decision = UsePartition | AdoptPartition | MakePartition | WipeDisk


@dataclass(frozen=True)
class History:
    """What the journal says of the backing disk. serial and partuuid: of what was begun here, or empty.

    wiping: a wipe was begun; wiped: it was finished. done: the partition and its metadata were there once.
    rebuilt: the journal had been lost, so what it does not say may have happened all the same.
    """

    serial: str = ""
    partuuid: str = ""
    wiping: bool = False
    wiped: bool = False
    done: bool = False
    rebuilt: bool = False

    @classmethod
    def of(cls, detail: Mapping[str, str], half: str = "", *, done: bool, rebuilt: bool) -> History:
        """From the journal's details of the disks step. half: what its keys begin with, of a half of a mirror."""
        return cls(
            serial=detail.get(f"{half}serial", ""),
            partuuid=detail.get(f"{half}partuuid", ""),
            wiping=f"{half}wipe" in detail,
            wiped=f"{half}wiped" in detail,
            done=done,
            rebuilt=rebuilt,
        )

    @property
    def may_wipe(self) -> bool:
        """Never twice, never what was made here, and never on a node that may have forgotten what it did."""
        return not (self.rebuilt or self.done or self.wiped) and (self.wiping or not self.partuuid)


def partition_name(cluster: Cluster) -> str:
    """What our partition is called: so a disk says by itself whose data it carries."""
    return f"{_name_stem(cluster)}{cluster.storage.drbd.resource}"[:NAME_LENGTH]


def _name_stem(cluster: Cluster) -> str:
    return f"xenpair-{cluster.cluster.name}-"[:NAME_LENGTH]


def backing_disks(rule: DiskRule, devices: Sequence[BlockDevice]) -> tuple[BlockDevice, ...]:
    """The one disk that the rule means; with raid1 the two, in the order of their serials.

    Raises BackingDiskError as disk_choice.choose() does.
    """
    return choose("backing", rule, devices, unusable, BackingDiskError)


OWN_TABLE = frozenset({"gpt", "PMBR"})
"""What a half-made partition table of our own leaves on a disk (wipefs's names)."""


def backing_partition(
    disk: BlockDevice, contents: Contents, history: History, cluster: Cluster, *, unused: bool, wipe: bool
) -> Decision:
    """What to do with the backing disk, given what is on it and what the journal says was begun here.

    unused: a partition of our name on it, if there is one, has never held data. wipe: its rule says so, and names its
    serial. Raises BackingDiskError when the disk holds anything that this node did not put there, or lacks what it did.
    """
    if history.serial != disk.serial and history.partuuid:
        raise BackingDiskError(
            f"first boot began with the disk of serial {history.serial!r}, now the rule fits {disk.path} "
            f"with serial {disk.serial!r}",
            hint="put the first disk back, or install this node anew",
        )
    for child in disk.children:
        if history.partuuid and child.partuuid == history.partuuid:
            return UsePartition(child)
    if history.done:
        raise BackingDiskError(
            f"first boot made a partition with PARTUUID {history.partuuid} on {disk.path} (serial {disk.serial!r}), "
            f"and it is gone; found: {listed(findings(disk, contents)) or 'nothing'}",
            hint="a partition is made only once: mend the partition table, or install this node anew",
        )
    if is_blank(disk, contents) or is_half_made(disk, contents, history):
        if contents.held:
            raise BackingDiskError(
                f"{named(disk)} shows nothing on it, and something uses it all the same",
                hint="see `lsblk` and /sys/class/block/*/holders; free it, then `xenpair resume`",
            )
        return MakePartition(disk)
    if unused and not history.partuuid and (own := own_partition(disk, cluster)) is not None:
        return AdoptPartition(own)
    found = findings(disk, contents)
    if reason := _not_to_be_wiped(disk, contents, history, cluster):
        raise _refusal(disk, contents, reason)
    if not wipe:
        raise _refusal(disk, contents, "", _way_through(disk))
    return WipeDisk(disk, found)


def is_blank(disk: BlockDevice, contents: Contents) -> bool:
    """Whether nothing at all is on a disk, as far as can be seen."""
    return not disk.children and not contents.signatures and not contents.edges.data


def is_half_made(disk: BlockDevice, contents: Contents, history: History) -> bool:
    """Whether a partition table of our own is all that is on the disk: it was blank when the journal says we began."""
    return (
        bool(history.partuuid)
        and (history.wiped or not history.wiping)
        and not disk.children
        and {s.kind for s in contents.signatures} <= OWN_TABLE
        and not contents.edges.beyond_table(disk.size)
    )


def own_partition(disk: BlockDevice, cluster: Cluster) -> BlockDevice | None:
    """The only partition on a disk, where it has the name that this cluster gives."""
    if len(disk.children) == 1 and disk.children[0].partlabel == partition_name(cluster):
        return disk.children[0]
    return None


def is_empty_inside(disk: BlockDevice, contents: Contents) -> bool:
    """Whether a disk holds a partition table, and nothing that would stand inside a partition."""
    return {s.kind for s in contents.signatures} <= OWN_TABLE and not contents.edges.beyond_table(disk.size)


def is_drbds_alone(contents: Contents) -> bool:
    """Whether nothing but DRBD's metadata is known to stand inside the partitions of a disk."""
    return {s.kind for s in contents.signatures} <= OWN_TABLE | {"drbd"}


def _not_to_be_wiped(disk: BlockDevice, contents: Contents, history: History, cluster: Cluster) -> str:
    """Why a disk that is not blank stays as it is even where its rule says wipe; empty where nothing speaks for it."""
    names = {*contents.edges.names, *(child.partlabel for child in disk.children)}
    if ours := sorted(name for name in names if name.startswith(_name_stem(cluster))):
        return (
            f"it carries {', '.join(ours)}, a partition of this very cluster, and the journal of this node does not "
            "know it; what may be the pair's own data is never wiped by first boot"
        )
    if history.rebuilt:
        return "the journal of first boot was lost, so nothing is wiped: it may have happened before"
    if not history.may_wipe:
        return "it was blank when first boot began with it, so this came later, and is not wiped"
    if contents.held:
        return "something uses it (a mount, RAID, LVM or DRBD on it), so it is not wiped"
    return ""


def findings(disk: BlockDevice, contents: Contents) -> tuple[str, ...]:
    """Each thing on a disk: what, and where."""
    found = [str(s) for s in contents.signatures]
    kinds = {s.kind for s in contents.signatures}
    gone = [s for s in contents.edges.remains if s.kind not in kinds]
    for child in disk.children:
        inside = ", ".join(word for word in (child.fstype, child.partlabel) if word)
        found.append(f"partition {child.path} ({inside or 'no file system'})")
    found += [f"{s}, left by what is gone" for s in gone]
    if not found and contents.edges.data:
        found.append(f"data of no known kind, first at byte {contents.edges.data[0]} of {disk.path}")
    return tuple(found)


def listed(found: Sequence[str]) -> str:
    shown = ", ".join(found[:20])
    return f"{shown} and {len(found) - 20} more" if len(found) > 20 else shown


def _refusal(disk: BlockDevice, contents: Contents, reason: str, way: str = "") -> BackingDiskError:
    message = f"{named(disk)} is not blank: {listed(findings(disk, contents))}"
    return BackingDiskError(
        f"{message}; {reason}" if reason else message,
        hint=f"if nothing on it is needed, {way}clear it by hand, then `xenpair resume`: {by_hand(disk)}",
    )


def _way_through(disk: BlockDevice) -> str:
    if not is_exact(disk.serial or None):
        return ""
    rule = f'{{serial: "{disk.serial}", wipe: true}}'
    return f"put `disks: {{backing: {rule}}}` under this node in the config on the seed medium, or "


def by_hand(disk: BlockDevice) -> str:
    """What clears a disk, for an administrator to type."""
    parts = [d.path for d in disk.walk() if d.type == "part"]
    commands = [f"wipefs --all {path}" for path in (*reversed(parts), disk.path)]
    commands += [f"blkdiscard --zeroout --offset {at} --length {n} {disk.path}" for at, n in edge_ranges(disk.size)]
    return "; ".join(commands)


def may_wipe(rule: DiskRule, disk: BlockDevice) -> bool:
    """Whether the rule asks for a wipe of this very disk."""
    return rule.wipe and names_each_disk(rule) and disk.serial in rule.serials
