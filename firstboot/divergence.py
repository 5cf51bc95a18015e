"""What two sides have written since they parted, for people and for scripts."""

from __future__ import annotations

import json

from firstboot.blocks import BLOCK
from firstboot.plan.split_brain import METADATA, Kinship, Row, Side, Written, kinship, rows

HEAD = ("volume", "written on {}", "written on {}", "same places", "last written on")


def amount(written: Written) -> str:
    """Like 12.0 MiB, or up to 8 KiB where the disk cannot say it yet."""
    if written.most == 0:
        return "-"
    if written.least == written.most:
        return _size(written.most)
    return f"up to {_size(written.most)}" if written.least == 0 else f"{_size(written.least)} to {_size(written.most)}"


def _size(blocks: int) -> str:
    size = blocks * BLOCK / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "KiB" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def last(row: Row) -> str:
    """Which side's data is the later one, as far as DRBD can know."""
    if not row.last:
        return "neither"
    if len(row.last) == 2:
        return "both: only you can tell" if row.certain else "one of them, or both"
    return row.last[0] if row.certain else f"{row.last[0]}, if at all"


def _name(row: Row) -> str:
    return row.volume if len(row.on) == 2 else f"{row.volume} (only on {row.on[0]})"


def table(mine: Side, peer: Side) -> str:
    """A line for each volume, with a head; areas that neither side touched and that are no volume are left out."""
    lines = [(HEAD[0], HEAD[1].format(mine.node), HEAD[2].format(peer.node), HEAD[3], HEAD[4])]
    for row in rows(mine, peer):
        if not row.last and row.volume.startswith("("):
            continue
        same = _size(row.both) if row.both else "-"
        lines.append((_name(row), amount(row.mine), amount(row.peer), same, last(row)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_text(mine: Side, peer: Side) -> str:
    """The whole picture, and what can be typed."""
    relation = kinship(mine.generations, peer.generations)
    if relation is not Kinship.SPLIT:
        return f"{mine.node} and {peer.node}: no split brain that can be settled here: {relation.value}"
    lines = [
        f"Split brain: {mine.node} and {peer.node} have both gone on alone from the same data.",
        *(f"  {side.node}: {side.connection}, {side.role}, {side.disk}" for side in (mine, peer)),
        "",
        table(mine, peer),
        "",
    ]
    if mine.seqno != peer.seqno or mine.volumes != peer.volumes:
        lines += ["The volume group itself was changed: one side's volumes are not the other's.", ""]
    lines += [
        "Nothing is discarded by itself. To save a volume of the side that will be given up:",
        f"  ssh {peer.node} xenpair split-brain --copy VOLUME > FILE",
        "Then keep one side's data; the other side's is overwritten, in all volumes:",
        f"  xenpair split-brain --keep {mine.node}   or   xenpair split-brain --keep {peer.node}",
    ]
    return "\n".join(lines)


def loss(mine: Side, peer: Side, lost: str) -> str:
    """What is gone once the named node's side is discarded."""
    found = []
    for row in rows(mine, peer):
        by = row.mine if lost == mine.node else row.peer
        if row.volume != METADATA and (by.most or row.on == (lost,)):
            found.append(f"  {_name(row)}: {amount(by)}")
    kept = peer.node if lost == mine.node else mine.node
    what = "\n".join(found) or "  nothing that belongs to a volume"
    return (
        f"{table(mine, peer)}\n\nTo keep {kept}'s data, this is discarded on {lost}:\n{what}\n"
        f"What runs on {lost} is stopped first. Nothing of it can be brought back."
    )


def as_json(mine: Side, peer: Side) -> str:
    """For scripts; the keys are a contract. Amounts in bytes."""

    def side(of: Side) -> dict[str, object]:
        return {
            "node": of.node,
            "connection": of.connection,
            "role": of.role,
            "disk": of.disk,
            "written": of.written * BLOCK,
            "vg_seqno": of.seqno,
        }

    def bounds(by: Written) -> dict[str, int]:
        return {"least": by.least * BLOCK, "most": by.most * BLOCK}

    relation = kinship(mine.generations, peer.generations)
    return json.dumps(
        {
            "split_brain": relation is Kinship.SPLIT,
            "relation": relation.name.lower(),
            "nodes": [side(mine), side(peer)],
            "volumes": [
                {
                    "name": row.volume,
                    "on": row.on,
                    "written": {mine.node: bounds(row.mine), peer.node: bounds(row.peer)},
                    "both": row.both * BLOCK,
                    "last": row.last,
                    "certain": row.certain,
                }
                for row in rows(mine, peer)
            ],
        },
        indent=1,
    )
