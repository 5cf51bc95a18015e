"""What a machine can be recognised by, and which nodes of a config it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A node's eyes hold a Machine, and so every command would load pydantic, and take seconds more.
    from config.model import Cluster, Node


@dataclass(frozen=True)
class Machine:
    """What a machine can be recognised by. nics: MAC address by interface name, physical cards only."""

    nics: Mapping[str, str]
    serial: str = ""
    uuid: str = ""

    def __str__(self) -> str:
        cards = ", ".join(f"{name} {mac}" for name, mac in sorted(self.nics.items())) or "none"
        return f"network cards: {cards}; DMI serial: {self.serial or 'none'}; DMI UUID: {self.uuid or 'none'}"


def matching(cluster: Cluster, machine: Machine) -> list[Node]:
    """The nodes whose match the machine fits in all that is given: exactly one, where all is well."""
    return [node for node in cluster.nodes if _fits(node, machine)]


def _fits(node: Node, machine: Machine) -> bool:
    match = node.match
    return (
        (match.mac is None or match.mac in machine.nics.values())
        and (match.serial is None or match.serial == machine.serial)
        and (match.uuid is None or match.uuid.lower() == machine.uuid.lower())
    )


def expected(node: Node) -> Machine:
    """The machine as far as the config tells of it."""
    macs = {"match": node.match.mac, "guest": node.nics.guest, "cluster": node.nics.cluster}
    nics = {name: mac for name, mac in macs.items() if mac is not None}
    return Machine(nics, node.match.serial or "", node.match.uuid or "")
