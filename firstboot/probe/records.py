"""Parsers of what first boot itself has written besides the journal, and that names the backing device."""

from __future__ import annotations

import re

from pydantic import ValidationError

from firstboot.errors import ProbeError
from firstboot.join.facts import JoinRecord

_DEVICE = re.compile(r"/dev/disk/by-(?:partuuid/([0-9a-f-]{36})|id/(md-uuid-[0-9a-f:]{35}))")


def device_in_join(text: str | bytes, node: str, cluster: str) -> str:
    """PARTUUID, or md-uuid-UUID of the mirror, that this node has stated in the join.

    Raises ProbeError for a text that is no record of a join, or that of another node or cluster.
    """
    try:
        mine = JoinRecord.model_validate_json(text).mine
    except ValidationError as e:
        raise ProbeError(f"it is not what first boot has written there: {e.errors()[0]['msg']}") from e
    if (mine.node, mine.cluster) != (node, cluster):
        raise ProbeError(f"it is of {mine.node} in cluster {mine.cluster}, and this is {node} in {cluster}")
    return mine.partition.rpartition("/")[2]


def device_in_resource(text: str, node: str) -> str | None:
    """The same of that node's disk in a DRBD resource file as first boot renders it; None where there is none."""
    section = re.search(rf"^\s*on {re.escape(node)} \{{(.*?)\}}", text, re.MULTILINE | re.DOTALL)
    disk = _DEVICE.search(section[1]) if section else None
    return disk[1] or disk[2] if disk else None
