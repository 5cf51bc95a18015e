"""`xenpair capacity`: what runs where now, and what would run and what would wait after the loss of each node."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from config.capacity import MIB, guest_share
from config.placement import Demand, Load, Situation, as_data, taken_over
from firstboot.guests import running, xl
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.probe.xen import Domain

HELD_EXIT_CODE = 2


@dataclass(frozen=True)
class Side:
    """A node as it is now. free: bytes of memory that Xen gives to nobody."""

    node: str
    domains: tuple[Domain, ...]
    free: int


def situations(demands: tuple[Demand, ...], sides: tuple[Side, ...]) -> tuple[Situation, ...]:
    """The pair as it is, then after the loss of each node: the other one keeps what runs there and admits the rest.

    Guests that run nowhere now (held, or on their way) are admitted at home first, where home is up.
    """
    present = [_present(side, demands) for side in sides]
    nowhere = [d for d in demands if not any(d in load.started for load in present)]
    present = [
        Load(load.node, load.size, load.started, tuple(d for d in nowhere if d.home == load.node or len(present) == 1))
        for load in present
    ]
    after = []
    for load in present:
        others = [other for other in present if other.node != load.node]
        after += [Situation(load.node, tuple(taken_over(other, demands) for other in others))] if others else []
    return Situation(None, tuple(present)), *after


def _present(side: Side, demands: tuple[Demand, ...]) -> Load:
    here = tuple(d for d in demands if running.here(d.name, side.domains) is not None)
    return Load(side.node, side.free + sum(d.memory for d in here), here, ())


def show(pair: Pair, *, json_wanted: bool, say: Callable[[str], None]) -> int:
    """Print it; 0, or 2 where a guest would be held in one of the situations."""
    sides = [Side(pair.brief.node, xl.domains(), xl.hypervisor().free_memory)]
    if (peer := pair.peer()) is not None:
        sides.append(Side(pair.brief.peer, peer.domains(), peer.hypervisor().free_memory))
    demands = tuple(
        Demand(guest.name, one.home, guest_share(one), one.vcpus, one.priority)
        for guest in registry(pair.brief.volume_group)
        if (one := guest.definition).wanted == "running" and one.phase == "ready"
    )
    plan = situations(demands, tuple(sides))
    say(as_json(plan) if json_wanted else as_text(plan))
    return HELD_EXIT_CODE if any(situation.held for situation in plan) else 0


def as_json(plan: tuple[Situation, ...]) -> str:
    """For scripts: memory in bytes, guests by name; lost is null for the present."""
    return json.dumps({"situations": as_data(plan)}, indent=1)


def as_text(plan: tuple[Situation, ...]) -> str:
    """A few lines for people."""
    lines = []
    for situation in plan:
        lines.append(f"{situation.lost} is lost:" if situation.lost else "now:")
        for load in situation.nodes:
            names = ", ".join(demand.name for demand in load.started) or "no guest"
            lines.append(f"  {load.node}: {names}; {load.left // MIB}M of {load.size // MIB}M left")
            lines += [
                f"    {demand.name} waits: it needs {-(-demand.memory // MIB)}M"
                + (f", and {load.left // MIB}M are left" if demand.memory > load.left else "")
                for demand in load.held
            ]
    return "\n".join(lines)
