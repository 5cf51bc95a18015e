"""Which disk the install medium may be written to: decided from what lsblk shows, before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence

from config.capacity import about
from images.blockdevices import BlockDevice, carrier
from images.errors import StickError

SYSTEM = frozenset(
    ["/", "/boot", "/boot/efi", "/efi", "/etc", "/home", "/nix", "/opt", "/root", "/srv", "/usr", "/var"]
)
"""Mount points of the running system (hier(7)): a disk that carries one is refused whatever else may be said for it."""
_DISKS = ("disk", "loop")
"""What lsblk calls a whole disk; a loop device is a disk for whoever tries things out."""


def choose(
    devices: Sequence[BlockDevice], numbers: str, name: str, *, iso_size: int, force_fixed: bool = False
) -> BlockDevice:
    """The disk with these numbers (major:minor), if an ISO of that many bytes may be written to it.

    name: what the administrator called it. Raises StickError, with the first reason against it.
    """
    found = carrier(devices, numbers)
    if found is None or found[0].size == 0:
        raise StickError(f"{name} has no medium in it", hint=_candidates(devices))
    disk, top = found
    if disk.type == "part":
        raise StickError(
            f"{name} is a partition of {top.path}, and the ISO brings a partition table of its own",
            hint=f"give the whole disk: --device {top.path}",
        )
    if disk.type not in _DISKS:
        raise StickError(f"{name} is no disk, but {disk.type} on {top.path}", hint=_candidates(devices))
    _refuse_what_is_used(disk, devices)
    if not is_stick(disk) and not force_fixed:
        raise StickError(
            f"{summary(disk)} is neither removable nor on USB",
            hint=f"if it is to be overwritten all the same: --force-fixed; else {_candidates(devices)}",
        )
    if disk.read_only:
        raise StickError(f"{summary(disk)} is read-only", hint="move its write-protect switch, or take another one")
    if disk.size < iso_size:
        raise StickError(
            f"{summary(disk)} is too small: the ISO has {iso_size} bytes, and it has {disk.size}",
            hint="take a larger one",
        )
    return disk


def is_stick(disk: BlockDevice) -> bool:
    """Whether it is a disk that one takes out and carries to a server."""
    return disk.removable or disk.transport == "usb"


def summary(disk: BlockDevice) -> str:
    """A disk in a few words, for somebody who has to recognise it."""
    serial = f"serial {disk.serial}" if disk.serial else "no serial number"
    return f"{disk.path} ({disk.model or 'no model name'}, {serial}, {about(disk.size)})"


def description(disk: BlockDevice) -> str:
    """The same, with a line for each thing that is on it."""
    lines = [f"  {_content(device)}" for device in disk.walk() if device.fstype or device.pttype or device is not disk]
    return "\n".join([f"{summary(disk)} holds:", *lines]) if lines else f"{summary(disk)} holds nothing that is known"


def _content(device: BlockDevice) -> str:
    words = [device.path, about(device.size)]
    if device.fstype:
        words += [device.fstype, *([repr(device.label)] if device.label else [])]
    elif device.type == "part":
        words.append("partition")
    elif device.pttype:
        words += ["partition table", device.pttype]
    return " ".join(words)


def _refuse_what_is_used(disk: BlockDevice, devices: Sequence[BlockDevice]) -> None:
    used = [*disk.mounts()]
    for device, place in used:
        if place in SYSTEM:
            raise StickError(
                f"{summary(disk)} carries the running system: {place} lies on {device.path}",
                hint=f"this is this machine's own disk, and is never written to; {_candidates(devices)}",
            )
    for device, place in used:
        if place == "[SWAP]":
            raise StickError(f"{device.path} on {summary(disk)} is swap space in use", hint=f"`swapoff {device.path}`")
        raise StickError(
            f"{device.path} on {summary(disk)} is mounted at {place}", hint=f"if it is the right one: `umount {place}`"
        )
    if disk.holder is not None:
        raise StickError(
            f"{summary(disk)} is in use: {disk.holder.path} ({disk.holder.type}) is made of it",
            hint="take that apart first (`vgchange -an`, `mdadm --stop`, `cryptsetup close`), or take another disk",
        )


def _candidates(devices: Sequence[BlockDevice]) -> str:
    free = [summary(d) for d in devices if d.size and is_stick(d) and not d.holder and not [*d.mounts()]]
    return f"free sticks here: {', '.join(free)}" if free else "no free stick is plugged in here"
