"""Split brain: whether two sides have parted, and what each has written since. Nothing here decides whose data counts.

DRBD counts no time. Each side keeps a bitmap of what it wrote without the peer; where one side alone has written to a
volume, that side wrote it last, and where both have, only a person can know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from firstboot.blocks import Blocks
from firstboot.probe.drbd import UUID_JUST_CREATED, Generations
from firstboot.probe.lvm import Volume


class Kinship(Enum):
    """How two sides' data are related, as DRBD 8.4 judges it when they meet (drbd_uuid_compare, drbd_receiver.c)."""

    SAME = "both have the same generation of data"
    MINE_NEWER = "this side has gone on from the peer's data"
    PEER_NEWER = "the peer has gone on from this side's data"
    SPLIT = "both have gone on alone from the same data"
    AMBIGUOUS = "both come from the same data, and their records do not tell what each has written since"
    UNRELATED = "the two have no generation of data in common"


def kinship(mine: Generations, peer: Generations) -> Kinship:
    """The rules of drbd_uuid_compare, in its order. The lowest bit of an UUID says Primary, and nothing of its data."""
    blank = (0, UUID_JUST_CREATED)
    rules = (
        (mine.current == peer.current, Kinship.SAME),
        (mine.current in blank, Kinship.PEER_NEWER),
        (peer.current in blank, Kinship.MINE_NEWER),
        (mine.current in (peer.bitmap, *peer.history), Kinship.PEER_NEWER),
        (peer.current in (mine.bitmap, *mine.history), Kinship.MINE_NEWER),
        # Both bitmaps count from the same moment: rule 90.
        (mine.bitmap == peer.bitmap != 0, Kinship.SPLIT),
        # Rule 100: DRBD takes two unused places of the history for a common ancestor, too.
        (bool(set(mine.history) & set(peer.history)), Kinship.AMBIGUOUS),
    )
    return next((relation for holds, relation in rules if holds), Kinship.UNRELATED)


@dataclass(frozen=True)
class Side:
    """What one node knows of its own data.

    written: blocks that it has written since they parted, as the kernel counts them. marked: the blocks of which its
    disk says so. hot: those of which the disk cannot say it yet. end: blocks of the replicated device. data_start:
    those of them that LVM keeps for itself.
    """

    node: str
    connection: str
    role: str
    disk: str
    generations: Generations
    written: int
    marked: Blocks
    hot: Blocks
    end: int
    data_start: int
    seqno: int
    volumes: tuple[Volume, ...]


@dataclass(frozen=True)
class Written:
    """How many blocks of an area a side has written: not fewer than least, not more than most."""

    least: int
    most: int


def written(side: Side, area: Blocks) -> Written:
    """Bounds for an area, from what is marked and hot in it, and from the exact sum over the whole device."""
    marked, hot = side.marked, side.hot - side.marked
    in_area, hot_in_area = (marked & area).count, (hot & area).count
    # A mark on the disk may be older than its removal in memory; a write may not be marked on the disk yet.
    stale = max(0, marked.count - side.written)
    unmarked = max(0, side.written - marked.count)
    least = max(0, in_area - stale) + max(0, unmarked - (hot.count - hot_in_area))
    return Written(least, max(least, min(in_area + min(hot_in_area, unmarked), side.written)))


@dataclass(frozen=True)
class Row:
    """One volume, or what else there is: what both sides wrote to it, how many blocks both are known to have written.

    on: the nodes that have the volume at all. last: the nodes on which it may have been written last.
    certain: each of those has certainly written to it.
    """

    volume: str
    on: tuple[str, ...]
    mine: Written
    peer: Written
    both: int
    last: tuple[str, ...]
    certain: bool


METADATA = "(volume group)"
FREE = "(no volume)"


def _areas(side: Side) -> dict[str, Blocks]:
    """Each block of the device in one area: a volume, LVM's own, or none."""
    taken = Blocks()
    for volume in side.volumes:
        taken |= volume.blocks
    whole = Blocks.of([(0, side.end)])
    first = taken.ranges[0][0] if taken else side.end
    own = Blocks.of([(0, min(first, side.data_start))])
    return {**{v.name: v.blocks for v in side.volumes}, METADATA: own, FREE: whole - taken - own}


def rows(mine: Side, peer: Side) -> tuple[Row, ...]:
    """What was written where, volume by volume; each side's blocks are read by that side's own map of volumes."""
    here, there = _areas(mine), _areas(peer)
    found = []
    for name in dict.fromkeys((*(v.name for v in (*mine.volumes, *peer.volumes)), METADATA, FREE)):
        areas = here.get(name, Blocks()), there.get(name, Blocks())
        by_mine, by_peer = written(mine, areas[0]), written(peer, areas[1])
        wrote = [(side.node, by) for side, by in ((mine, by_mine), (peer, by_peer)) if by.most]
        found.append(
            Row(
                volume=name,
                on=tuple(side.node for side, area in ((mine, here), (peer, there)) if name in area),
                mine=by_mine,
                peer=by_peer,
                both=(mine.marked & areas[0] & peer.marked & areas[1]).count,
                last=tuple(node for node, _ in wrote),
                certain=all(by.least for _, by in wrote),
            )
        )
    return tuple(found)


def obstacle(mine: Side, peer: Side, keep: str) -> str:
    """Why nothing can be decided now, or an empty string."""
    sides: Sequence[Side] = (mine, peer)
    if keep not in (mine.node, peer.node):
        return f"the pair is {mine.node} and {peer.node}, not {keep}"
    for side in sides:
        if side.connection not in ("StandAlone", "WFConnection"):
            return f"DRBD on {side.node} is {side.connection}: there is nothing to decide"
    kept = mine if keep == mine.node else peer
    if kept.disk not in ("UpToDate", "Consistent"):
        return f"{keep} cannot be kept: its disk is {kept.disk}"
    relation = kinship(mine.generations, peer.generations)
    if relation is not Kinship.SPLIT:
        return f"this is not a split brain that can be settled here: {relation.value}"
    return ""
