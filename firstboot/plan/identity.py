"""Which node of the config a machine is, and which of its cards are which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from config.machine import Machine, matching
from config.model import Cluster, Node
from firstboot.errors import IdentityError


def identity(cluster: Cluster, machine: Machine) -> Node:
    """Which node of the config this machine is. Raises IdentityError, with what was seen, unless exactly one fits."""
    nodes = matching(cluster, machine)
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
