"""This node: what the config says it is, and what a template may name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config import secrets as cluster_secrets
from config.door import write_file
from config.loader import load
from config.model import Cluster, Node
from config.secrets import Secrets
from firstboot import observe
from firstboot.join.facts import JoinRecord
from firstboot.places import Places
from firstboot.plan.identity import identity, nic

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "node"
MANAGED = "Managed by xenpair: changed here, it is overwritten. Change cluster.yaml instead."


@dataclass(frozen=True)
class NodeNics:
    """Interface names on this node of the two cards that the config knows by MAC address."""

    guest: str
    cluster: str


@dataclass(frozen=True)
class ThisNode:
    """All that steps share. Made once the identity is known; nothing in it changes."""

    cluster: Cluster
    secrets: Secrets
    me: Node
    peer: Node
    nics: NodeNics
    places: Places

    @property
    def first(self) -> bool:
        """The config's first node does what must be done on one side only."""
        return self.cluster.is_first(self.me.name)

    def join_record(self) -> JoinRecord | None:
        """What both nodes stated in the join, once that is done."""
        try:
            return JoinRecord.model_validate_json(self.places.join.read_bytes())
        except FileNotFoundError:
            return None

    @cached_property
    def _templates(self) -> Environment:
        return Environment(
            loader=FileSystemLoader(TEMPLATES),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701  configuration files, no markup
        )

    def render(self, path: str) -> str:
        """The content of a file that a template below templates/node stands for; path like etc/hosts."""
        record = self.join_record()
        partitions = {f.node: f.partition for f in (record.mine, record.peer)} if record else {}
        return self._templates.get_template(f"{path}.j2").render(
            cluster=self.cluster,
            node=self.me,
            peer=self.peer,
            secrets=self.secrets,
            nics=self.nics,
            partitions=partitions,
            managed=MANAGED,
        )

    def is_deployed(self, files: dict[str, int]) -> bool:
        """Whether each file (path: mode) has the content that its template gives."""
        for path, mode in files.items():
            try:
                target = self.places.at(path)
                if target.read_text() != self.render(path) or target.stat().st_mode & 0o7777 != mode:
                    return False
            except FileNotFoundError:
                return False
        return True

    def deploy(self, files: dict[str, int]) -> None:
        """Write each file (path: mode) from its template."""
        for path, mode in files.items():
            write_file(self.places.at(path), self.render(path), mode=mode)


def this_node(places: Places) -> ThisNode:
    """Load config and secrets from this node's disk and find out which node this is.

    Raises ConfigError, IdentityError, or OSError where the config is not there.
    """
    cluster = load(places.config).cluster
    machine = observe.machine()
    me = identity(cluster, machine)
    by_mac = {mac: name for name, mac in machine.nics.items()}
    return ThisNode(
        cluster=cluster,
        secrets=cluster_secrets.load(places.secrets),
        me=me,
        peer=cluster.peer_of(me.name),
        nics=NodeNics(guest=nic(by_mac, me, "guest"), cluster=nic(by_mac, me, "cluster")),
        places=places,
    )
