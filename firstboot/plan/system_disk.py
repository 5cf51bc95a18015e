"""Which disk, or mirrored pair of disks, the dom0 is installed on, and whether it may be written to at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config.diskrules import is_exact
from config.model import DiskRule
from config.sizes import format_size
from firstboot.errors import SystemDiskError
from firstboot.plan import backing, disk_choice
from firstboot.plan.disk_choice import named
from firstboot.probe.disks import TABLE_ROOM, BlockDevice, Contents, Signature
from firstboot.probe.marker import Marker

MEDIUM_LABEL = "XENPAIR_INSTALL"
"""Volume label of the install medium."""
SECTOR = 512
"""Bytes of a logical sector, in which the image's partition table counts."""


@dataclass(frozen=True)
class Install:
    """The disk is blank. found: what its wipe would erase, or nothing."""

    disk: BlockDevice
    found: tuple[str, ...] = ()


@dataclass(frozen=True)
class InstallAgain:
    """An installation of this very node was begun on it, and has not come to its end."""

    disk: BlockDevice


Decision = Install | InstallAgain


def system_disks(rule: DiskRule, devices: Sequence[BlockDevice]) -> tuple[BlockDevice, ...]:
    """The one disk that the rule means; with raid1 the two, in the order of their serials.

    Raises SystemDiskError as disk_choice.choose() does, and for one that it was booted from.
    """
    return disk_choice.choose("system", rule, devices, _unusable, SystemDiskError)


def _unusable(disk: BlockDevice) -> str | None:
    if any(d.label == MEDIUM_LABEL for d in disk.walk()):
        return f"which carries the label {MEDIUM_LABEL}; that is the install medium"
    if disk.sector != SECTOR:
        return f"which has logical sectors of {disk.sector} bytes; the image is made for {SECTOR}"
    return disk_choice.unusable(disk)


def admission(
    disk: BlockDevice, contents: Contents, found: Marker | None, mine: Marker, *, wipe: bool
) -> Install | InstallAgain:
    """Whether that disk may be written to, given what is on it.

    found: the marker in its first block. wipe: its rule says so, and names its serial. Raises SystemDiskError.
    """
    if backing.is_blank(disk, contents):
        _refuse_if_held(disk, contents, "shows nothing on it")
        return Install(disk)
    if found is not None and found.is_of_same_node(mine) and _is_marked_alone(disk, contents):
        _refuse_if_held(disk, contents, "has only the beginning of an installation on it")
        return InstallAgain(disk)
    what = backing.findings(disk, contents)
    if found is not None:
        what = (f"the beginning of an installation of {found.node} of the cluster {found.cluster}", *what)
    holds = f"is not blank: {backing.listed(what)}"
    if not wipe:
        raise SystemDiskError(f"{named(disk)} {holds}", hint=_way_through(disk))
    _refuse_if_held(disk, contents, holds)
    return Install(disk, what)


def _is_marked_alone(disk: BlockDevice, contents: Contents) -> bool:
    """Whether nothing has come onto a marked disk since: the backup table is the last but one thing that is written."""
    return not disk.children and all(_is_backup_table(disk, signature) for signature in contents.signatures)


def _is_backup_table(disk: BlockDevice, signature: Signature) -> bool:
    return signature.kind == "gpt" and signature.offset >= disk.size - TABLE_ROOM


def _refuse_if_held(disk: BlockDevice, contents: Contents, state: str) -> None:
    if contents.held:
        raise SystemDiskError(
            f"{named(disk)} {state}, and something uses it: a mount, RAID or LVM on it",
            hint="nothing of that is taken apart here: do so from a rescue system, then try again",
        )


def large_enough(disk: BlockDevice, size: int) -> None:
    """Raises SystemDiskError where a disk has less than that many bytes."""
    if disk.size < size:
        raise SystemDiskError(
            f"{named(disk)} has {format_size(disk.size)}, and the image needs {format_size(size)}",
            hint="make the system rule name a larger disk, by min_size or by its serial",
        )


def _way_through(disk: BlockDevice) -> str:
    by_hand = f"clear it from a rescue system: {backing.by_hand(disk)}"
    if not is_exact(disk.serial or None):
        return f"if nothing on it is needed, {by_hand}"
    rule = f'{{serial: "{disk.serial}", wipe: true}}'
    return f"if nothing on it is needed, put `disks: {{system: {rule}}}` under this node in the config, or {by_hand}"
