"""What may change when a dead server is replaced: the other node's hardware, and nothing that both nodes share."""

from __future__ import annotations

from config.model import Cluster

HARDWARE = ("match", "nics", "disks", "memory", "bmc")
"""Keys of nodes[] that describe the machine, not its place in the cluster."""


def objection(old: Cluster, new: Cluster, peer: str) -> str | None:
    """Why the new config is not the old one with other hardware for that node, or None where it is.

    Name, addresses, storage and everything else of the pair stay: the survivor runs on them while the new node comes.
    """
    old_parts, new_parts = old.model_dump(), new.model_dump()
    nodes = old_parts.pop("nodes"), new_parts.pop("nodes")
    for section, value in old_parts.items():
        if new_parts[section] != value:
            return f"{section} differs from the config that this node runs by"
    if [node["name"] for node in nodes[0]] != [node["name"] for node in nodes[1]]:
        return "the nodes have other names, or stand in another order"
    for before, after in zip(*nodes, strict=True):
        kept = [key for key in before if before["name"] != peer or key not in HARDWARE]
        for key in kept:
            if before[key] != after[key]:
                return f"{key} of {before['name']} differs: only {', '.join(HARDWARE)} of {peer} may"
    return None
