"""The lab's two segments in operation: the switch, the gateway and the BMCs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab import bmc, monitor, netserver, network, ssh
from lab.errors import StartError
from lab.process import Process
from lab.state import State, load
from lab.switch import Faults

GATEWAY_QMP = "gateway.qmp"

Update = Callable[..., State]
"""Changes fields of the lab's state, by name, and writes it down; the state after that."""


def start(directory: Path, update: Update) -> None:
    """Start what does not run. Raises StartError."""
    state = load(directory)
    if state.switch is None or not state.switch.alive():
        log = directory / "switch.err"
        cables = map(str, network.cables(state.cluster, state.via))
        process = Process.spawn_module("lab.switch", *cables, cwd=directory, log=log)
        state = update(switch=process)
        network.wait_ready(process, directory, log)
        network.control(directory, Faults(faults=state.faults))
    if state.gateway is None or not state.gateway.alive():
        _start_gateway(directory, state, update)
    if state.via == "pxe":
        netserver.start(directory, load(directory), update)
    bmc.start(directory, load(directory), lambda bmcs: update(bmcs=bmcs))


def guard(directory: Path, state: State) -> None:
    """See that what the pair needs to form still runs. Raises StartError with the end of the log of what does not."""
    needed = {"switch": state.switch, "gateway": state.gateway}
    if state.via == "pxe":
        needed |= {"uplink": state.uplink, "server": state.server}
    for what, process in needed.items():
        if process is None or not process.alive():
            log = (directory / f"{what}.err").read_text(errors="replace").strip()
            raise StartError(f"the lab's {what} ended: {log[-1000:]}", hint="the same command starts it again")


def _start_gateway(directory: Path, state: State, update: Update) -> None:
    log = directory / "gateway.err"
    for attempt in range(3):
        *free, last = network.free_ports(3)
        ports = dict(zip((node.name for node in state.cluster.nodes), free, strict=True))
        page = last if state.via == "pxe" else None
        argv = network.gateway_argv(state.cluster, ports, qmp=GATEWAY_QMP, page=page)
        process = Process.spawn(argv, cwd=directory, log=log)
        update(gateway=process, ports=ports, page=page)
        try:
            monitor.wait_ready(process, directory, GATEWAY_QMP, log)
        except StartError:
            # Another program may have taken a port since it was found free.
            if attempt == 2:
                raise
        else:
            ssh.write_config(directory, ports)
            return
