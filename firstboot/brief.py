"""The brief: what a formed node needs to know at every boot, worked out once from the config.

The storage unit, `xenpair status` and what heartbeat calls are short programs that run often. Reading the whole config
takes them ten times as long as their work, so first boot leaves them this: a few names, and no secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from config.door import write_file
from firstboot.errors import NodeError

if TYPE_CHECKING:
    from config.model import Cluster, Node
    from config.secrets import Secrets

T = TypeVar("T")
Found = TypeVar("Found", "Brief", "FencingBrief")


@dataclass(frozen=True)
class Brief:
    """Names of this node and its peer, and of what they share. first: it is the config's first node."""

    node: str
    peer: str
    first: bool
    resource: str
    volume_group: str

    @classmethod
    def of(cls, cluster: Cluster, me: Node) -> Brief:
        """From the config."""
        return cls(
            node=me.name,
            peer=cluster.peer_of(me.name).name,
            first=cluster.is_first(me.name),
            resource=cluster.storage.drbd.resource,
            volume_group=cluster.storage.volume_group,
        )

    @property
    def text(self) -> str:
        """As it is kept for later boots."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Keep it for later boots."""
        write_file(path, self.text)


@dataclass(frozen=True)
class BmcBrief:
    """How the peer's management controller is reached."""

    type: str
    address: str
    port: int
    user: str
    password: str

    def __repr__(self) -> str:
        return f"BmcBrief({self.type} {self.user}@{self.address}:{self.port})"


@dataclass(frozen=True)
class FencingBrief:
    """How the peer is fenced. delay: seconds that this node lets the other shoot first. It holds a password: 0600."""

    peer: str
    delay: int
    power_on: bool
    bmc: BmcBrief | None

    @classmethod
    def of(cls, cluster: Cluster, me: Node, secrets: Secrets) -> FencingBrief:
        """From the config. Raises NodeError where the secrets lack the password."""
        peer = cluster.peer_of(me.name)
        bmc = None
        if peer.bmc is not None:
            try:
                password = secrets.bmc_password(peer.bmc.password)
            except KeyError as e:
                raise NodeError(f"the secrets have no password {e} for the BMC of {peer.name}") from e
            bmc = BmcBrief(peer.bmc.type, str(peer.bmc.address), peer.bmc.port, peer.bmc.user, password)
        delay = 0 if cluster.is_first(me.name) else cluster.fencing.delay
        return cls(peer.name, delay, cluster.fencing.power_on, bmc)

    @property
    def text(self) -> str:
        """As it is kept for later boots."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Keep it for later boots."""
        write_file(path, self.text, mode=0o600)


def read_fencing_brief(path: Path) -> FencingBrief | None:
    """What FencingBrief.write has left, or None before that. Raises NodeError otherwise."""

    def make(raw: dict[str, Any]) -> FencingBrief:
        return FencingBrief(**{**raw, "bmc": BmcBrief(**raw["bmc"]) if raw["bmc"] else None})

    return _left_by_first_boot(path, make, hint=_REMOVE)


def read_brief(path: Path) -> Brief | None:
    """The brief that first boot has left, or None where it has not come that far. Raises NodeError otherwise."""

    return _left_by_first_boot(path, lambda raw: Brief(**raw), hint=_REMOVE)


def known(brief: Found | None) -> Found:
    """The brief, where what is asked needs one. Raises NodeError where first boot has not left it yet."""
    if brief is None:
        raise NodeError(
            "this node does not know yet which node it is, nor its peer",
            hint="first boot tells it; `xenpair status` shows how far that is",
        )
    return brief


def both_fresh(join: Path) -> tuple[bool, bool] | None:
    """Whether this side's and the peer's metadata were fresh at the join; None before it. Raises NodeError."""
    return _left_by_first_boot(join, lambda record: (bool(record["mine"]["fresh"]), bool(record["peer"]["fresh"])))


_REMOVE = "remove it, then `xenpair resume`"


def _left_by_first_boot(path: Path, make: Callable[[dict[str, Any]], T], *, hint: str = "") -> T | None:
    try:
        return make(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as e:
        raise NodeError(f"{path} is not what first boot has written there: {e}", hint=hint) from e
