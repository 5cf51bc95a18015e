"""Which guest runs where, and which one has to wait: for the pair as it should be, and after the loss of either node.

Pure, and a node's own what-if is reckoned by it too, so nothing here imports the model. The rule is the supervisor's,
which starts guests in this order, each if it fits into what is free then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config import capacity

if TYPE_CHECKING:
    from config.model import Cluster


@dataclass(frozen=True)
class Demand:
    """What a guest asks of a node. memory: bytes that Xen sets aside for it (config.capacity.guest_share)."""

    name: str
    home: str
    memory: int
    vcpus: int = 1
    priority: int = 50


@dataclass(frozen=True)
class Load:
    """A node and its guests. size: bytes of memory that it has for guests; started and held in order of admission."""

    node: str
    size: int
    started: tuple[Demand, ...]
    held: tuple[Demand, ...]

    @property
    def left(self) -> int:
        """Bytes of memory that no guest has."""
        return self.size - sum(demand.memory for demand in self.started)

    @property
    def vcpus(self) -> int:
        """Virtual CPUs of the guests that run."""
        return sum(demand.vcpus for demand in self.started)


@dataclass(frozen=True)
class Situation:
    """The nodes that are up. lost: the node that is not, or None."""

    lost: str | None
    nodes: tuple[Load, ...]

    @property
    def held(self) -> tuple[Demand, ...]:
        """Guests that run nowhere."""
        return tuple(demand for load in self.nodes for demand in load.held)


def admit(demands: Iterable[Demand], free: int) -> tuple[tuple[Demand, ...], tuple[Demand, ...]]:
    """Which guests are started in that much memory (bytes), and which are held.

    The higher priority comes first, then the name. What does not fit in what is left is held, and a smaller one behind
    it may still start.
    """
    started, held = [], []
    for demand in sorted(demands, key=lambda demand: (-demand.priority, demand.name)):
        if demand.memory <= free:
            free -= demand.memory
            started.append(demand)
        else:
            held.append(demand)
    return tuple(started), tuple(held)


def situations(demands: Iterable[Demand], sizes: Mapping[str, int]) -> tuple[Situation, ...]:
    """The pair with both nodes up and each guest at home; then after the loss of each node, in the order of sizes.

    sizes: bytes of memory that each node has for guests. Nothing that runs makes room: the survivor keeps its own
    guests, and admits the others into what they leave, so one of low priority may run while one of high priority waits.
    """
    demands = tuple(demands)
    present = {
        node: Load(node, size, *admit([demand for demand in demands if demand.home == node], size))
        for node, size in sizes.items()
    }
    after = []
    for lost in sizes:
        survivors = [load for node, load in present.items() if node != lost]
        after.append(Situation(lost, tuple(taken_over(load, demands) for load in survivors)))
    return Situation(None, tuple(present.values())), *after


def taken_over(load: Load, demands: Iterable[Demand]) -> Load:
    """A survivor: what runs there goes on, and the others are admitted into what that leaves."""
    started, held = admit([demand for demand in demands if demand not in load.started], load.left)
    return Load(load.node, load.size, (*load.started, *started), held)


def as_data(plan: Iterable[Situation]) -> list[dict[str, Any]]:
    """For JSON: memory in bytes, guests by name in order of admission; lost is null while both nodes are up."""
    return [
        {
            "lost": situation.lost,
            "nodes": [
                {
                    "name": load.node,
                    "memory": load.size,
                    "left": load.left,
                    "vcpus": load.vcpus,
                    "runs": [demand.name for demand in load.started],
                    "held": [demand.name for demand in load.held],
                }
                for load in situation.nodes
            ],
        }
        for situation in plan
    ]


def demands_of(cluster: Cluster) -> tuple[Demand, ...]:
    """What a config's guests ask for."""
    return tuple(
        Demand(guest.name, guest.home, capacity.guest_share(guest), guest.vcpus, guest.priority)
        for guest in cluster.guests
    )


def sizes_of(cluster: Cluster) -> dict[str, int]:
    """Bytes of memory that each of a config's nodes has for guests, by name."""
    return {node.name: capacity.free_for_guests(cluster, node) for node in cluster.nodes}
