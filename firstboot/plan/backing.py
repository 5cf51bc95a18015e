"""Which disk goes below DRBD, and whether it may be written to at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from config.model import DiskRule, format_size
from firstboot.errors import BackingDiskError
from firstboot.probe.disks import BlockDevice, Signature


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
