"""Snapshots of both machines at one instant, memory and disks: a trial on a formed pair costs seconds, not minutes.

They live in the nodes' own qcow2 files (savevm), so they go with them. A machine's clock stands while it does not run:
after a restore it goes on from the time of the snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from lab import machine, monitor
from lab.errors import LabError
from lab.servers import Update, power_on
from lab.state import Snapshot, State

LIMIT = 300.0
"""Seconds for writing one machine's memory to its disk: it takes one or two."""


def check(state: State, name: str) -> None:
    """Whether there is a snapshot of that name. Raises LabError."""
    if name not in state.snapshots:
        known = ", ".join(state.snapshots) or "none"
        raise LabError(f"there is no snapshot {name!r} of this lab", hint=f"there are: {known}")


def take(directory: Path, state: State, name: str, update: Update) -> None:
    """Pause both machines, save each, let them run on. Raises LabError where one is off or QEMU cannot."""
    nodes = [node.name for node in state.cluster.nodes]
    for node in nodes:
        if node not in state.nodes or not state.nodes[node].alive():
            raise LabError(f"{node} is off: a snapshot is one of two running machines")
    try:
        for node in nodes:
            monitor.execute(directory, machine.qmp(node), "stop")
        consoles = {node: (directory / f"{node}.log").stat().st_size for node in nodes}
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(_save, directory, name), nodes))
    finally:
        _go_on(directory, nodes)
    update(snapshots={**state.snapshots, name: Snapshot(boots=state.boots, consoles=consoles)})


def resume(directory: Path, state: State, name: str, update: Update, fails_after: Mapping[str, int]) -> None:
    """Start both machines, which are off, from a snapshot; their consoles' logs end where they did then.

    Raises StartError where one does not start.
    """
    snapshot = state.snapshots[name]
    for node in state.cluster.nodes:
        os.truncate(directory / f"{node.name}.log", snapshot.consoles[node.name])
        state = state.model_copy(update={"boots": snapshot.boots})
        power_on(directory, state, node, update, snapshot=name, fails_after=fails_after.get(node.name))
        state = update(boots=snapshot.boots)
    _go_on(directory, [node.name for node in state.cluster.nodes])


def _save(directory: Path, name: str, node: str) -> None:
    arguments = {"command-line": f"savevm {name}"}
    answer = monitor.execute(directory, machine.qmp(node), "human-monitor-command", arguments, timeout=LIMIT)
    # What this command has to say is always an error.
    if answer:
        raise LabError(f"QEMU cannot save {node}: {str(answer).strip()}")


def _go_on(directory: Path, nodes: list[str]) -> None:
    for node in nodes:
        monitor.execute(directory, machine.qmp(node), "cont")
