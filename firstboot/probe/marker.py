"""The marker of an installation that was begun: the first block of a disk, until the real one takes its place.

It stands where a boot sector or a partition table would begin, boots nothing, and is nothing that libblkid knows.
Whoever partitions the disk, or makes it a volume of something, overwrites it or is seen beside it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

BLOCK = 4096
"""Bytes: the largest logical sector, so that one write replaces all of it."""
MAGIC = b"xenpair: this disk is being installed\n"
ROOM = 440
"""Bytes before the partition table of a boot sector, in which the text stands."""


@dataclass(frozen=True)
class Marker:
    """Whose installation it is. key: of the image."""

    cluster: str
    node: str
    key: str

    def to_block(self) -> bytes:
        """The whole block; all behind the text is zero."""
        text = MAGIC + json.dumps(asdict(self)).encode() + b"\n"
        if len(text) > ROOM:
            raise ValueError(f"a marker of {len(text)} bytes is too long")
        return text.ljust(BLOCK, b"\0")

    def is_of_same_node(self, other: Marker) -> bool:
        """Whether both are of one node of one cluster, by whatever image."""
        return (self.cluster, self.node) == (other.cluster, other.node)


def parse_marker(block: bytes) -> Marker | None:
    """The marker that is all of a disk's first block, or None."""
    if not block.startswith(MAGIC):
        return None
    try:
        marker = Marker(**json.loads(block[len(MAGIC) :].partition(b"\n")[0]))
        return marker if marker.to_block() == block else None
    except (ValueError, TypeError):
        return None
