"""A mirrored pair of disks (Linux md, RAID1): what it is called, what makes it, and what its halves are worth.

mdadm's arguments are those of mdadm(8). Whoever makes a mirror chooses its UUID, and writes it down first.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from firstboot.probe.mirror import Array

Purpose = Literal["system", "backing"]

CONF = "etc/mdadm/mdadm.conf.d/xenpair.conf"
"""Names the mirror below DRBD on this node. The one of the system has to be known in an initramfs that is the same on
every node: by its homehost, as the image's mdadm.conf says."""

HOMEHOST = {"system": "xenpair", "backing": "<none>"}
"""What the superblocks name as the array's host."""

LINUX_RAID = "A19D880F-05FC-4D3B-A006-743F0F84911E"
"""GPT type of a half (UEFI specification's registry, "RAID partition")."""

DATA_OFFSET_MIB = 2
"""Where the data begins on a half below DRBD. mdadm's own choice is up to 128 MiB, so that an array may be reshaped.
Here all that libblkid could know the mirror's content by (its first 5 MiB) has to stand in what first boot looks at and
a wipe erases: firstboot.probe.disks, EDGE; the partition's own offset is 1 MiB."""


@dataclass(frozen=True)
class Half:
    """One of the two disks: its serial number, and the PARTUUID of the partition on it."""

    serial: str
    partuuid: str

    @property
    def partition(self) -> Path:
        """Its stable name."""
        return Path("/dev/disk/by-partuuid", self.partuuid)


@dataclass(frozen=True)
class Mirror:
    """What a node knows of its mirror. out: serials of the halves that did not get what was written last.

    bare: serial of a new half of the system's, until its disk has what firmware starts.
    """

    array: str
    halves: tuple[Half, Half]
    out: tuple[str, ...] = ()
    bare: str = ""

    @property
    def device(self) -> Path:
        """The array's stable name."""
        return array_path(self.array)


def new_array() -> str:
    """A UUID for an array, in md's writing."""
    text = uuid.uuid4().hex
    return ":".join(text[at : at + 8] for at in range(0, 32, 8))


def array_path(array: str) -> Path:
    """The name that udev gives to an array that runs (63-md-raid-arrays.rules)."""
    return Path(f"/dev/disk/by-id/md-uuid-{array}")


def array_name(purpose: Purpose) -> str:
    """What the array is called, in its superblocks and below /dev/md."""
    return f"xenpair-{purpose}"


def conf(array: str) -> str:
    """The file that lets udev put the mirror below DRBD together at boot, and no other one."""
    return f"ARRAY /dev/md/{array_name('backing')} UUID={array}\n"


def create_argv(purpose: Purpose, array: str, partitions: Sequence[Path]) -> list[str]:
    """mdadm for a new mirror. It asks nothing (--run), and takes no notice of what a creation left that was cut short.

    The system's has its superblock at the end (1.0), where firmware and GRUB do not see it: they read either half as if
    it stood alone.
    """
    layout = ["--metadata=1.0"] if purpose == "system" else ["--metadata=1.2", f"--data-offset={DATA_OFFSET_MIB}M"]
    name = array_name(purpose)
    return [
        *("mdadm", "--create", f"/dev/md/{name}", "--run", *layout),
        *("--level=1", "--raid-devices=2", "--bitmap=internal"),
        *(f"--homehost={HOMEHOST[purpose]}", f"--name={name}", f"--uuid={array}"),
        *map(str, partitions),
    ]


def table_of_half(script: str, serial: str) -> str:
    """A script for sfdisk(8), for the disk of that serial in a mirror: identifiers of its own, all else as the other's.

    Its last partition, root, says what is in it. The same serial leads to the same identifiers again.
    """

    def own(match: re.Match[str]) -> str:
        return f"{match[1]}{str(uuid.uuid5(uuid.UUID(match[2]), serial)).upper()}"

    lines = [line for line in script.splitlines() if not line.startswith(("last-lba:", "device:"))]
    lines = re.sub(r"(label-id: |uuid=)([0-9A-Fa-f-]{36})", own, "\n".join(lines)).splitlines()
    lines[-1] = re.sub(r"type=[^,]+", f"type={LINUX_RAID}", lines[-1])
    return "\n".join(lines) + "\n"


def root_partuuid(script: str) -> str:
    """Of such a script, what its last partition, root, is known by."""
    return str(re.findall(r"uuid=([0-9A-Fa-f-]{36})", script)[-1]).lower()


State = Literal["whole", "copying", "rebuilding", "degraded", "stopped", "outdated"]


@dataclass(frozen=True)
class Standing:
    """How a mirror is. lost: serials of the halves that are not in it. percent: of the copying that goes on, if any.

    whole; copying: both halves count, and are being made equal, as after it was made or after a power cut; rebuilding:
    a half gets a copy of the other, or its disk does not boot yet; degraded: one half is lost; stopped: it does not
    run; outdated: it runs on a half that missed what was written last.
    """

    state: State
    lost: tuple[str, ...] = ()
    percent: int | None = None


def standing(mirror: Mirror, array: Array | None, names: Mapping[str, str]) -> Standing:
    """From what the kernel says of the array (None where it does not run), and the names that it gives to the halves.

    names: the kernel's name of a partition by its PARTUUID, of those that are there.
    """
    if array is None or not array.running:
        gone = tuple(half.serial for half in mirror.halves if half.partuuid not in names)
        return Standing("stopped", gone)
    in_sync = _in_sync(mirror, array, names)
    rebuilding = {half.serial for half in mirror.halves if names.get(half.partuuid) in array.rebuilding}
    lost = tuple(half.serial for half in mirror.halves if half.serial not in in_sync | rebuilding)
    if in_sync and in_sync <= set(mirror.out):
        return Standing("outdated", lost, array.percent)
    if lost:
        return Standing("degraded", lost, array.percent)
    if rebuilding or mirror.bare:
        return Standing("rebuilding", (), array.percent)
    return Standing("whole" if array.percent is None else "copying", (), array.percent)


def noted(mirror: Mirror, array: Array | None, names: Mapping[str, str]) -> Mirror:
    """The mirror with what is true now of who is out; unchanged where it does not run, or on an outdated half alone.

    It is from this that a half that was out is known when it comes back alone: md itself would take it for good, and
    DRBD would take what is on it for what it replicated.
    """
    if array is None or not array.running or standing(mirror, array, names).state == "outdated":
        return mirror
    in_sync = _in_sync(mirror, array, names)
    if not in_sync:
        return mirror
    return replace(mirror, out=tuple(half.serial for half in mirror.halves if half.serial not in in_sync))


def _in_sync(mirror: Mirror, array: Array, names: Mapping[str, str]) -> set[str]:
    return {half.serial for half in mirror.halves if names.get(half.partuuid) in array.in_sync}


def with_new_half(mirror: Mirror, lost: str, half: Half, purpose: Purpose = "backing") -> Mirror:
    """The mirror with a half in the place of the lost one; it is out until it has been copied to."""
    kept = next(h for h in mirror.halves if h.serial != lost)
    out = (*(serial for serial in mirror.out if serial == kept.serial), half.serial)
    return replace(mirror, halves=(kept, half), out=out, bare=half.serial if purpose == "system" else "")


def bootable(mirror: Mirror) -> Mirror:
    """The mirror, now that each of its disks has what firmware starts."""
    return replace(mirror, bare="")


def advice(state: Standing, mirror: Mirror) -> str:
    """What to do about it, for the administrator; empty where there is nothing to do."""
    lost = " and ".join(state.lost)
    match state.state:
        case "degraded":
            return (
                f"the disk with serial {lost} is lost; put a blank one in its place, then "
                "`xenpair replace-disk SERIAL` with the new one's serial, as `lsblk -o PATH,SERIAL` shows it"
            )
        case "rebuilding" if mirror.bare:
            return (
                f"the disk with serial {mirror.bare} does not boot before `xenpair replace-disk {mirror.bare}` has "
                "ended; type it again if it was interrupted"
            )
        case "outdated":
            current = " or ".join(half.serial for half in mirror.halves if half.serial not in mirror.out)
            return (
                f"it runs on the half that was out before, and what was written last is on the one with serial "
                f"{current}; shut this node down and put that one back"
            )
        case "stopped" if lost:
            return f"the disk with serial {lost} is not there; with the other one alone it starts after 30 s"
        case "stopped":
            return "see `cat /proc/mdstat`, `journalctl -u 'mdadm-last-resort@*'`"
    return ""
