"""What a power cut leaves: the blocks of a disk, and DRBD's metadata beside them.

Generations are compared as DRBD 8.4 does (drbd_uuid_compare in linux/drivers/block/drbd/drbd_receiver.c); the numbers
of its rules stand beside ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INCONSISTENT, OUTDATED, UNKNOWN, CONSISTENT, UP_TO_DATE = range(1, 6)
"""DRBD's disk states in its own order, from Inconsistent up."""

STATE_NAMES = {
    INCONSISTENT: "Inconsistent",
    OUTDATED: "Outdated",
    UNKNOWN: "DUnknown",
    CONSISTENT: "Consistent",
    UP_TO_DATE: "UpToDate",
}

JUST_CREATED = 4
"""UUID_JUST_CREATED."""

SYNC_OFFSET = 1 << 32
"""UUID_NEW_BM_OFFSET: what a resync adds to the bitmap's generation to name itself."""

SPLIT, UNRELATED = 100, 1000


@dataclass(slots=True)
class Generations:
    """The registers of a metadata block: current, the one that the bitmap counts from, and two of history."""

    current: int = JUST_CREATED
    bitmap: int = 0
    old: int = 0
    older: int = 0

    def copy(self) -> Generations:
        """As they are sent to the peer."""
        return Generations(self.current, self.bitmap, self.old, self.older)

    def begin_new(self, current: int) -> None:
        """drbd_uuid_new_current: from here on this side's writes are its own."""
        self.bitmap, self.current = self.current, current

    def set_bitmap(self, bitmap: int) -> None:
        """drbd_uuid_set of UI_BITMAP: the former one goes into history."""
        if self.bitmap:
            self.old, self.older = self.bitmap, self.old
        self.bitmap = bitmap


@dataclass(slots=True)
class Disk:
    """content and unsynced are sets of writes, one bit each; the flags are MDF_*."""

    content: int = 0
    unsynced: int = 0
    generations: Generations = field(default_factory=Generations)
    consistent: bool = False
    was_up_to_date: bool = False
    peer_outdated: bool = False
    primary: bool = False
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: what it sends. crashed: it was Primary when it went down, and not resynced since."""

    generations: Generations
    primary: bool
    crashed: bool
    arbiter: bool


def compare(mine: Side, peer: Side) -> int:
    """0 equal; 1, 2 the peer follows this side (by the bitmap, or in full); -1, -2 the other way; +-SPLIT, -UNRELATED.

    Corrects both registers where a resync's end or beginning was lost on the way, as DRBD does.
    """
    me, they = mine.generations, peer.generations
    if they.current == me.current == JUST_CREATED:
        return 0  # 10
    if me.current == JUST_CREATED:
        return -2  # 20
    if they.current == JUST_CREATED:
        return 2  # 30
    if me.current == they.current:
        return _same_current(mine, peer)
    return _ancestry(me, they)


def _same_current(mine: Side, peer: Side) -> int:
    me, they = mine.generations, peer.generations
    if they.bitmap == 0 and me.bitmap != 0:
        if (me.bitmap, me.old) == (they.old, they.older):  # 34: the resync's end did not reach its source
            me.old, me.older, me.bitmap = me.bitmap, me.old, 0
        return 1  # 36
    if me.bitmap == 0 and they.bitmap != 0:
        if (me.old, me.older) == (they.bitmap, they.old):  # 35
            they.old, they.older, they.bitmap = they.bitmap, they.old, 0
        return -1  # 37
    if not (mine.crashed or peer.crashed):
        return 0  # 40
    if mine.primary or peer.primary:  # 41
        return -SPLIT if mine.primary and peer.primary else 1 if mine.primary else -1
    if mine.crashed and peer.crashed:
        return -1 if mine.arbiter else 1
    return 1 if mine.crashed else -1


def _descends(young: Generations, old: Generations) -> int:
    """1 or 2 where the one's data has come from the other's, else 0."""
    if young.bitmap == old.current:
        return 1
    if young.old == old.current and young.old + SYNC_OFFSET == young.bitmap:
        young.bitmap, young.old = young.old, young.older  # the name of the resync did not get through
        return 1
    return 2 if old.current in (young.old, young.older) else 0


def _ancestry(me: Generations, they: Generations) -> int:
    order = _descends(they, me)  # 50, 51, 60
    if order:
        return -order
    order = _descends(me, they)  # 70, 71, 80
    if order:
        return order
    if me.bitmap == they.bitmap != 0:
        return SPLIT  # 90
    related = {me.old, me.older} & {they.old, they.older}
    return -SPLIT if related else -UNRELATED  # 100
