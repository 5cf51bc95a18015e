"""What a BMC's own processes know of their lab: read from its state at every use, so that a change is in force at once.

Standard library only, since IPMI waits for the chassis program, which is started anew for every question: lab.state
and pydantic would cost a second on a busy host.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lab import liveness

Mode = Literal["ok", "unreachable", "lies", "wrong-password"]
"""What is wrong with a BMC: nothing; no frame reaches it or leaves it; it acknowledges a power off and does nothing,
while its status tells the truth; it expects another password than the nodes know. A liar that was told to cycle goes
on waiting for its machine to be off, and then switches it on: that is ipmi_sim's."""

_STATE = "state.json"


class Machine(NamedTuple):
    """The process that is a node's machine, as lab.process.Process."""

    pid: int
    started: int
    boot_id: str


class Bmc(NamedTuple):
    """One node's BMC."""

    node: str
    address: str
    port: int
    mode: Mode
    sim_port: int | None
    """UDP port of 127.0.0.1 at which ipmi_sim listens, if it runs."""
    machine: Machine | None
    """None where the node was never started."""

    def powered(self) -> bool:
        """Whether the node's machine runs."""
        return self.machine is not None and liveness.alive(*self.machine)


def read(directory: Path) -> tuple[Bmc, ...]:
    """The BMCs of the lab in directory, as they are now; none where there is no lab any more."""
    try:
        state = json.loads((directory / _STATE).read_bytes())
    except FileNotFoundError:
        return ()
    return tuple(_bmc(state, node) for node in state["cluster"]["nodes"] if node["bmc"])


def _bmc(state: dict[str, Any], node: dict[str, Any]) -> Bmc:
    name, bmcs = node["name"], state["bmcs"]
    machine = state["nodes"].get(name)
    return Bmc(
        node=name,
        address=node["bmc"]["address"],
        port=node["bmc"]["port"],
        mode=bmcs["modes"].get(name, "ok"),
        sim_port=bmcs["ports"].get(name),
        machine=Machine(machine["pid"], machine["started"], machine["boot_id"]) if machine else None,
    )
