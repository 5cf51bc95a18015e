"""Which node of the config a machine is, and which of its cards are which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from config.model import Cluster, Node
from firstboot.errors import IdentityError
from firstboot.probe.machine import Machine


def _is(node: Node, machine: Machine) -> bool:
    match = node.match
    return (
        (match.mac is None or match.mac in machine.nics.values())
        and (match.serial is None or match.serial == machine.serial)
        and (match.uuid is None or match.uuid.lower() == machine.uuid.lower())
    )


def identity(cluster: Cluster, machine: Machine) -> Node:
    """Which node of the config this machine is. Raises IdentityError, with what was seen, unless exactly one fits."""
    nodes = [node for node in cluster.nodes if _is(node, machine)]
    if len(nodes) == 1:
        return nodes[0]
    found = f"matches {' and '.join(n.name for n in nodes)}" if nodes else "matches no node of the config"
    raise IdentityError(
        f"this machine {found}; seen: {machine}",
        hint="put what was seen under nodes[].match of the right node, so that exactly one fits",
    )


def nic(names: Mapping[str, str], node: Node, which: Literal["guest", "cluster"]) -> str:
    """Interface name of one of the node's cards. names: interface name by MAC address. Raises IdentityError."""
    mac = getattr(node.nics, which)
    if mac not in names:
        seen = ", ".join(f"{name} {m}" for m, name in sorted(names.items())) or "none"
        raise IdentityError(
            f"this machine is {node.name}, and has no network card {mac} for nics.{which}; seen: {seen}",
            hint=f"put the right MAC address under nics.{which} of {node.name}",
        )
    return names[mac]
