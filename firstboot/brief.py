"""The brief: what a formed node needs to know at every boot, worked out once from the config.

The storage unit, `xenpair status` and what heartbeat calls are short programs that run often. Reading the whole config
takes them ten times as long as their work, so first boot leaves them this: a few names, and no secret.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from config.door import write_file
from firstboot.errors import NodeError

if TYPE_CHECKING:
    from config.model import Cluster, Node


@dataclass(frozen=True)
class GuestBrief:
    """A guest's name and the node that it runs on while both are up."""

    name: str
    home: str


@dataclass(frozen=True)
class Brief:
    """Names of this node and its peer, of what they share, and of the guests. first: it is the config's first node."""

    node: str
    peer: str
    first: bool
    resource: str
    volume_group: str
    guests: tuple[GuestBrief, ...] = ()

    @classmethod
    def of(cls, cluster: Cluster, me: Node) -> Brief:
        """From the config."""
        return cls(
            node=me.name,
            peer=cluster.peer_of(me.name).name,
            first=cluster.is_first(me.name),
            resource=cluster.storage.drbd.resource,
            volume_group=cluster.storage.volume_group,
            guests=tuple(GuestBrief(guest.name, guest.home) for guest in cluster.guests),
        )

    def write(self, path: Path) -> None:
        """Keep it for later boots."""
        write_file(path, json.dumps(asdict(self), indent=1) + "\n")


def read_brief(path: Path) -> Brief | None:
    """The brief that first boot has left, or None where it has not come that far. Raises NodeError otherwise."""
    try:
        raw = json.loads(path.read_text())
        return Brief(**{**raw, "guests": tuple(GuestBrief(**guest) for guest in raw["guests"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as e:
        raise NodeError(
            f"{path} is not what first boot has written there: {e}", hint="remove it, then `xenpair resume`"
        ) from e


def both_fresh(join: Path) -> tuple[bool, bool] | None:
    """Whether this side's and the peer's metadata were fresh at the join; None before it. Raises NodeError."""
    try:
        record = json.loads(join.read_text())
        return bool(record["mine"]["fresh"]), bool(record["peer"]["fresh"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as e:
        raise NodeError(f"{join} is not what first boot has written there: {e}") from e
