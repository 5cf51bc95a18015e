"""Which disks a rule of the config means: exactly as many as it has to, and none that is never to be written to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from config.model import DiskRule
from config.sizes import format_size
from firstboot.errors import BackingDiskError, SystemDiskError
from firstboot.probe.disks import BlockDevice

SEED_LABEL = "XENPAIRSEED"
"""Volume label of the seed medium, as in firstboot.steps.seed."""


def choose(
    which: Literal["system", "backing"],
    rule: DiskRule,
    devices: Sequence[BlockDevice],
    why_not: Callable[[BlockDevice], str | None],
    error: type[BackingDiskError | SystemDiskError],
) -> tuple[BlockDevice, ...]:
    """The one disk that the rule means; with raid1 the two, in the order of their serials.

    why_not: why a disk can never be it, whatever the config says. Raises error for more or fewer, for one that cannot
    be it, and for two that their serials do not tell apart.
    """
    there, found = disks(devices), matching(rule, devices)
    if len(found) != wanted(rule):
        raise error(
            f"the {which} rule {_fitting(rule, found)} of: {describe(there)}",
            hint=f"make storage.{which} (or nodes[].disks.{which}) name {_naming(rule)}",
        )
    for disk in found:
        if (reason := why_not(disk)) is not None:
            raise error(
                f"the {which} rule fits {named(disk)}, {reason}",
                hint=f"make the rule name another disk of: {describe(there)}",
            )
    if rule.raid1 and not _told_apart(rule, found):
        raise error(
            f"the {which} rule fits two disks that their serials do not tell apart: {describe(found)}",
            hint="the halves of a mirror are known by their serials: use disks that have one each",
        )
    return tuple(sorted(found, key=lambda disk: disk.serial))


def disks(devices: Sequence[BlockDevice]) -> list[BlockDevice]:
    """Those of the devices that a rule can mean."""
    return [d for d in devices if d.type == "disk" and d.size > 0]


def matching(rule: DiskRule, devices: Sequence[BlockDevice]) -> list[BlockDevice]:
    """All disks that fit the rule."""
    return [d for d in disks(devices) if fits(rule, d)]


def fits(rule: DiskRule, disk: BlockDevice) -> bool:
    """Whether a disk is what the rule means."""
    return (
        (rule.serial is None or any(fnmatchcase(disk.serial, serial) for serial in rule.serials))
        and (rule.wwn is None or rule.wwn == disk.wwn)
        and (rule.model is None or fnmatchcase(disk.model, rule.model))
        and (rule.min_size is None or disk.size >= rule.min_size)
        and (rule.max_size is None or disk.size <= rule.max_size)
    )


def wanted(rule: DiskRule) -> int:
    """How many disks a rule has to fit."""
    return 2 if rule.raid1 else 1


def unusable(disk: BlockDevice) -> str | None:
    """Why that disk is never written to, whatever the config says; None where nothing speaks against it."""
    if disk.in_use:
        mounted = ", ".join(m for d in disk.walk() for m in d.mountpoints)
        return f"which is in use: {mounted}; that is the system disk or the install medium"
    if any(d.label == SEED_LABEL for d in disk.walk()):
        return f"which carries the label {SEED_LABEL}; that is the seed medium"
    if disk.removable and disk.transport == "usb":
        return "which is a removable USB medium, the kind that a machine is installed from"
    if disk.read_only:
        return "which is read-only"
    return None


def named(disk: BlockDevice) -> str:
    """A disk, in a few words."""
    return f"{disk.path} (serial {disk.serial or 'none'})"


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


def _fitting(rule: DiskRule, found: Sequence[BlockDevice]) -> str:
    """How many disks it does fit, and how many it has to."""
    number = "1 disk" if len(found) == 1 else f"{len(found)} disks"
    fitting = "fits no disk" if not found else f"fits {number} ({describe(found)})"
    return f"{fitting}; it has to fit exactly {'two, as it says raid1,' if rule.raid1 else 'one'}"


def _naming(rule: DiskRule) -> str:
    return "the two disks, best by their serials" if rule.raid1 else "the one disk, best by its serial"


def _told_apart(rule: DiskRule, pair: Sequence[BlockDevice]) -> bool:
    """Whether each of the two disks has a serial of its own, and each of the rule's patterns means one of them."""
    each_means_one = all(any(fnmatchcase(d.serial, serial) for d in pair) for serial in rule.serials)
    return each_means_one and all(d.serial for d in pair) and pair[0].serial != pair[1].serial
