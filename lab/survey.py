"""How a lab is: what the host sees of each node, and what each node that can be reached says of the pair."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.door import Output
from config.errors import CommandError
from lab import bmc
from lab.console import Follower, Stage
from lab.report import LabStatus, NodeStatus, Pair
from lab.state import State

Ask = Callable[[str], Output]
"""`xenpair status --json` on the node of that name. Raises CommandError."""


def survey(directory: Path, state: State, ask: Ask) -> LabStatus:
    """Look at the lab in directory, and ask its nodes."""
    with ThreadPoolExecutor() as pool:
        nodes = tuple(pool.map(lambda node: _node(directory, state, node.name, ask), state.cluster.nodes))
    return LabStatus(
        accelerator=state.verdict.accelerator if state.verdict else None,
        accelerator_reason=state.verdict.reason if state.verdict else "chosen at the first start",
        cut=tuple(f"{fault.segment}-{fault.node}" for fault in state.faults),
        bmcs=bmc.troubles(state),
        nodes=nodes,
    )


def out_of_reach(state: State, name: str) -> str | None:
    """Why SSH to that node would only run into its timeout, as far as that is known beforehand."""
    process = state.nodes.get(name)
    if process is None or not process.alive():
        return "it is off"
    if any((fault.segment, fault.node) == ("guest", name) and fault.cut for fault in state.faults):
        return "its guest cable is out"
    return None


def _node(directory: Path, state: State, name: str, ask: Ask) -> NodeStatus:
    process = state.nodes.get(name)
    if process is None or not process.alive():
        return NodeStatus(name=name, running=False, console="", ssh_port=None, problem="off")
    progress = Follower(directory / f"{name}.log", state.boots[name]).poll()
    status = NodeStatus(name=name, running=True, console=progress.text, ssh_port=state.ports.get(name))
    starting = "being installed" if progress.stage is Stage.INSTALLER else "booting"
    problem = starting if progress.stage < Stage.SYSTEMD else out_of_reach(state, name)
    if problem is not None:
        return status.model_copy(update={"problem": problem})
    try:
        output = ask(name)
    except CommandError as e:
        return status.model_copy(update={"problem": str(e)})
    if not output.stdout.strip():
        return status.model_copy(update={"problem": output.stderr.strip() or "no answer"})
    pair = Pair.parse(output.stdout)
    if isinstance(pair, str):
        return status.model_copy(update={"problem": pair})
    return status.model_copy(update={"pair": pair, "exit_code": output.returncode})
