"""The nodes' machines in operation: power on and off, and what their network cards see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from config.model import Node
from lab import disks, machine, monitor, network, ssh
from lab.process import Process
from lab.state import State
from lab.switch import Fault

Update = Callable[..., State]
"""Changes fields of the lab's state, by name, and writes it down; the state after that."""


def power_on(
    directory: Path,
    state: State,
    node: Node,
    update: Update,
    *,
    snapshot: str | None = None,
    fails_after: int | None = None,
) -> None:
    """Start the node's QEMU, unless it runs: to boot, or from a snapshot, which it then holds paused.

    Raises StartError with the end of its log where it does not come up.
    """
    name = node.name
    if name in state.nodes and state.nodes[name].alive():
        return
    if state.verdict is None:
        raise AssertionError("an accelerator is chosen before any node is started")
    disks.make(directory, state.cluster, node, state.firmware, empty=state.via is not None)
    console, log = directory / f"{name}.log", directory / f"{name}.err"
    offset = console.stat().st_size if console.exists() else 0
    argv = machine.argv(
        state.cluster,
        node,
        firmware=state.firmware,
        accelerator=state.verdict.accelerator,
        seed=state.seeded,
        via=state.via,
        snapshot=snapshot,
        fails_after=fails_after,
    )
    process = Process.spawn(argv, cwd=directory, log=log)
    update(nodes={**state.nodes, name: process}, boots={**state.boots, name: offset})
    monitor.wait_ready(process, directory, machine.qmp(name), log)
    set_carrier(directory, name, state.faults)


def cut_power(directory: Path, state: State, name: str) -> None:
    """SIGKILL to the node's QEMU, and no waiting SSH to it any more."""
    if (process := state.nodes.get(name)) is not None:
        process.kill()
    ssh.hang_up(directory, name)


def set_carrier(directory: Path, name: str, faults: Sequence[Fault]) -> None:
    """Let the node's cards see which of its cables are out."""
    out = {fault.segment for fault in faults if fault.node == name and fault.cut}
    for cable in network.node_cables(name):
        link = {"name": cable.segment, "up": cable.segment not in out}
        monitor.execute(directory, machine.qmp(name), "set_link", link)
