"""`invoke plan-capacity`: what would run where, for people and for scripts."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from config import placement
from config.capacity import MIB, about
from config.guest_checks import memory_for_every_guest
from config.loader import load
from config.placement import Demand, Load, Situation

HELD_EXIT_CODE = 2


def plan_capacity(path: Path, *, json: bool = False, console: Console | None = None) -> int:
    """Print where the guests of a config run, now and after the loss of each node; reads nothing but the config.

    Returns the exit code: 0, or 2 where a guest would be held. Raises ConfigError for a config that is wrong in
    anything but its memory, which is what is asked here.
    """
    cluster = load(path, overlooking=(memory_for_every_guest,)).cluster
    plan = placement.situations(placement.demands_of(cluster), placement.sizes_of(cluster))
    if json:
        sys.stdout.write(as_json(cluster.cluster.name, plan))
    else:
        console = console or Console(highlight=False)
        console.print(as_table(cluster.cluster.name, plan))
        for line in held_lines(plan):
            console.print(line, markup=False, soft_wrap=True)
    return HELD_EXIT_CODE if any(situation.held for situation in plan) else 0


def as_json(cluster: str, plan: Sequence[Situation]) -> str:
    """For scripts: memory in bytes, guests by name in order of admission; lost is null while both nodes are up."""
    return json_text.dumps({"cluster": cluster, "situations": placement.as_data(plan)}, indent=2) + "\n"


def as_table(cluster: str, plan: Sequence[Situation]) -> Table:
    """One row for each node that is up, one section for each situation."""
    table = Table(title=f"Guests of {cluster}", title_justify="left")
    for heading in ("situation", "node", "runs", "held"):
        table.add_column(heading, overflow="fold")
    for heading in ("vCPUs", "for guests", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    for situation in plan:
        for i, node in enumerate(situation.nodes, 1):
            first, last = i == 1, i == len(situation.nodes)
            table.add_row(_called(situation) if first else "", *_cells(node), end_section=last)
    return table


def held_lines(plan: Sequence[Situation]) -> list[str]:
    """One line for each guest that would have to wait, and what it would need."""
    return [
        f"{_called(situation)}: {demand.name} is held: it needs {about(demand.memory)}, and {node.node} has "
        f"{_whole(node.left)} left"
        for situation in plan
        for node in situation.nodes
        for demand in node.held
    ]


def _called(situation: Situation) -> str:
    return f"{situation.lost} is lost" if situation.lost else "both nodes up"


def _cells(node: Load) -> tuple[str, ...]:
    held = f"[bold red]{_names(node.held)}[/]" if node.held else "-"
    return (node.node, _names(node.started), held, str(node.vcpus), _whole(node.size), _whole(node.left))


def _names(demands: Sequence[Demand]) -> str:
    return ", ".join(demand.name for demand in demands) or "-"


def _whole(size: int) -> str:
    """Room is rounded down, where config.capacity.about rounds a need up."""
    return f"{size // MIB}M"
