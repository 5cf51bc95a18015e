"""What becomes of a journal that is damaged, cut short or gone, judged by what else the node shows.

Nothing is taken for certain that only the lost lines said. Of most steps nothing has to be known: their check tells
whether the effect is there. The disks step does need its name for the partition or mirror, which the join and DRBD's
resource file repeat; where those name one, and the disk has it, that entry is written anew. Where they do not, the
disk's own content decides, and a rebuilt journal never allows a wipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from firstboot.errors import JournalError
from firstboot.journal import Reading, merged_detail
from firstboot.probe.disks import BlockDevice

DISKS = "disks"
"""Name of the step whose entry is needed; firstboot.steps.disks."""

MIRROR = "md-uuid-"
"""What udev's name of a mirror begins with."""


@dataclass(frozen=True)
class Past:
    """What the node shows of an earlier first boot, besides the journal.

    traces: files that its steps have left. named: PARTUUID of the backing partition, or md-uuid-UUID of the mirror in
    its place, by the file that names it.
    """

    traces: Sequence[str] = ()
    named: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rebuild:
    """Begin the journal anew with what could be read of it. disks: those details of the disks step that are certain."""

    why: str
    disks: Mapping[str, str]


def judge(path: str, reading: Reading, past: Past, devices: Sequence[BlockDevice]) -> Rebuild | None:
    """What is to be done about the journal: None where it is whole and says all that the node shows.

    Raises JournalError where the node's records contradict each other, or name a partition that is not there.
    """
    noted = _noted(merged_detail(reading.entries, DISKS))
    sources = {**past.named, **({path: noted} if noted else {})}
    if len(set(sources.values())) > 1:
        said = "; ".join(f"{file} says {device}" for file, device in sources.items())
        raise JournalError(
            f"the records of the backing device contradict each other: {said}",
            hint="see `lsblk -o PATH,PARTUUID,PARTLABEL`, move the wrong record away, then `xenpair resume`",
        )
    named = next(iter(past.named.values()), "")
    if reading.damage:
        why = reading.damage
    elif past.traces and not reading.entries:
        why = f"{path}: says nothing, and first boot has left {', '.join(past.traces)}"
    elif named and not noted:
        why = f"{path}: does not know the backing device, and {', '.join(past.named)} does"
    else:
        return None
    return Rebuild(why, _found(named, past, devices) if named and not noted else {})


def _noted(detail: Mapping[str, str]) -> str:
    """The name of the backing device in the journal, as the other records write it; empty where it has none yet."""
    if "array" in detail:
        return f"{MIRROR}{detail['array']}" if "made" in detail else ""
    return detail.get("partuuid", "")


def _found(named: str, past: Past, devices: Sequence[BlockDevice]) -> dict[str, str]:
    """The details of the disks step, from what the records name."""
    if named.startswith(MIRROR):
        return _found_mirror(named.removeprefix(MIRROR), past, devices)
    return _found_partition(named, past, devices)


def _found_mirror(array: str, past: Past, devices: Sequence[BlockDevice]) -> dict[str, str]:
    """One half is enough to know that it was made; what else there is to say of it, its own record says."""
    files = " and ".join(past.named)
    digits = array.replace(":", "")
    halves = [part for disk in devices for part in disk.children if part.uuid.replace("-", "") == digits]
    if not any(half.partlabel.startswith("xenpair-") for half in halves):
        raise JournalError(
            f"the journal of first boot is lost, and {files} names the mirror {array}, of which no half is here",
            hint="put a disk back, then `xenpair resume`; nothing is begun afresh while this node remembers its data",
        )
    return {"array": array, "made": "yes", "known_from": files}


def _found_partition(partuuid: str, past: Past, devices: Sequence[BlockDevice]) -> dict[str, str]:
    """The details of the disks step, from the one partition that the records name and that a first boot has made."""
    files = " and ".join(past.named)
    for disk in devices:
        for partition in disk.children:
            if partition.partuuid != partuuid:
                continue
            if not partition.partlabel.startswith("xenpair-"):
                raise JournalError(
                    f"{files} names the partition with PARTUUID {partuuid}; that is {partition.path}, called "
                    f"{partition.partlabel!r}, which first boot has not made",
                    hint="see `lsblk -o PATH,PARTUUID,PARTLABEL,SERIAL`; nothing is written to it",
                )
            return {"serial": disk.serial, "disk": disk.path, "partuuid": partuuid, "known_from": files}
    raise JournalError(
        f"the journal of first boot is lost, and {files} names PARTUUID {partuuid}, which no partition here has",
        hint="put the disk back, then `xenpair resume`; nothing is begun afresh while this node remembers its data",
    )
