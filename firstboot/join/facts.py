"""What a node states about itself in the join, and what keeps two statements from forming a pair."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from config.model import Model, Node, SshKey
from config.sizes import format_size


class Facts(Model):
    """One node's statement."""

    node: str
    cluster: str
    config_hash: str
    version: str
    """Version of xenpair-firstboot."""
    drbd: str
    """Version of the DRBD module."""
    host_key: SshKey
    user_key: SshKey
    partition: Annotated[
        str, Field(pattern=r"^/dev/disk/(by-partuuid/[0-9a-f-]{36}|by-id/md-uuid-[0-9a-f]{8}(:[0-9a-f]{8}){3})$")
    ]
    """Backing partition, or the mirror in its place, by its stable name."""
    size: Annotated[int, Field(gt=0)]
    """Bytes for data: what the metadata leaves of a fresh backing device, and of one in use what DRBD uses of it."""
    fresh: bool
    """Whether the DRBD metadata has just been created and never been used."""


class JoinRecord(Model):
    """Both statements, as they stand in join.json once the join is done."""

    mine: Facts
    peer: Facts


def objection(peer: Node, mine: Facts, theirs: Facts) -> str | None:
    """Why these two nodes do not form a pair, or None where they do."""
    if theirs.node != peer.name:
        return f"it says that it is {theirs.node!r}, and the config names {peer.name!r} as the peer"
    for what, here, there in (
        ("belongs to cluster", mine.cluster, theirs.cluster),
        ("has a different config:", mine.config_hash[:12], theirs.config_hash[:12]),
        ("runs xenpair-firstboot", mine.version, theirs.version),
        ("runs DRBD", mine.drbd, theirs.drbd),
    ):
        if here != there:
            return f"it {what} {there}, here {here}"
    if theirs.fresh == mine.fresh:
        return None
    used, fresh = (mine, theirs) if theirs.fresh else (theirs, mine)
    if fresh.size >= used.size:
        return None
    return (
        f"the fresh backing device of {fresh.node} has room for {format_size(fresh.size)} of data, and {used.node} "
        f"has {format_size(used.size)}"
    )
