"""The nodes' BMCs: an ipmi_sim for each, and the relay that puts them on the guest segment.

ipmi_sim (OpenIPMI) speaks IPMI 2.0 over LAN as a real BMC does. It listens on 127.0.0.1; the relay carries its
datagrams to and from the address that the config gives, which is on the guest network. It lives as long as the lab's
network, whether its node runs or not: a server that is off has standby power.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from config.door import write_file
from config.model import Bmc, Cluster, Node
from config.secrets import Secrets
from images import preflight
from lab import bmc_orders, bmc_relay
from lab.bmc_chassis import log_file
from lab.bmc_view import Mode
from lab.errors import LabError, StartError
from lab.process import SOURCES, Process
from lab.state import Bmcs, State

PASSWORDS = "bmc.passwords"
COMMANDS = "bmc.commands"
RELAY_LOG = "bmc.err"
_USER_LIMIT, _PASSWORD_LIMIT = 15, 19
"""Bytes that ipmi_sim keeps of a user's name and password: it ends both with a NUL (read_bytes in OpenIPMI 2.0.33's
lanserv/config.c), in fields of 16 and 20."""
_PING = bytes.fromhex("0600ff06000011be80000000")
"""RMCP header of class ASF, and ASF's presence ping (DMTF DSP0136, 3.2.4.2)."""
_STARTUP = 20.0
"""Seconds for a program that is there in a fraction of one: only a busy host needs them."""

NEEDS = {"ipmi_sim": "openipmi"}
"""What a lab with BMCs takes of this host (see images.preflight)."""
Record = Callable[[Bmcs], object]
"""Writes down what runs, before anything else can go wrong."""


def check(cluster: Cluster, known: Mapping[str, str]) -> None:
    """Whether the lab's BMCs can be what the config describes, with the passwords known by node. Raises LabError."""
    nodes = _with_bmc(cluster)
    if nodes and (lacking := preflight.missing(NEEDS)):
        fault = f"{', '.join(lacking)} is not installed, and the config has BMCs"
        raise LabError(fault, hint=preflight.install_command(lacking.values()))
    for node, bmc in nodes:
        network = node.addresses.guest.network
        if bmc.address not in network or bmc.address in (network.network_address, network.broadcast_address):
            raise LabError(
                f"{node.name}'s BMC is at {bmc.address}, and the lab has BMCs on the guest network {network} only",
                hint="for the lab, use a copy of the config with another nodes[].bmc.address",
            )
        for what, value, limit in (
            ("user", bmc.user, _USER_LIMIT),
            ("password", known.get(node.name, ""), _PASSWORD_LIMIT),
        ):
            if len(value.encode()) > limit or any(c.isspace() for c in value):
                raise LabError(
                    f"the {what} of {node.name}'s BMC cannot be used in the lab, where ipmi_sim plays the BMC: "
                    f"it takes at most {limit} bytes and no blank",
                    hint="for the lab, use a copy of the config with a secrets file of its own",
                )


def passwords(cluster: Cluster, found: Secrets) -> dict[str, str]:
    """By node, its BMC's password. Raises KeyError where the secrets lack one."""
    return {node.name: found.bmc_password(bmc.password) for node, bmc in _with_bmc(cluster)}


def adopt(directory: Path, known: Mapping[str, str]) -> None:
    """Keep the passwords in the lab, mode 0600, as its nodes keep theirs."""
    write_file(directory / PASSWORDS, json.dumps(dict(known)) + "\n", mode=0o600)


def start(directory: Path, state: State, record: Record) -> None:
    """Start what does not run. Raises StartError."""
    bmcs = state.bmcs
    for node, bmc in _with_bmc(state.cluster):
        if not _alive(bmcs.sims.get(node.name)):
            bmcs = _start_sim(directory, node, bmc, bmcs, record)
    if _with_bmc(state.cluster) and not _alive(bmcs.relay):
        _start_relay(directory, bmcs, record)


def stop(directory: Path, state: State) -> Bmcs:
    """End all of them at once, with the orders that they have taken; what is left is what is wrong with each."""
    bmcs = state.bmcs
    for process in (bmcs.relay, *bmcs.sims.values()):
        if process is not None:
            process.kill()
    for node, _ in _with_bmc(state.cluster):
        bmc_orders.discard(directory, node.name)
    return Bmcs(modes=bmcs.modes)


def set_mode(directory: Path, state: State, node: Node, mode: Mode, record: Record) -> None:
    """Make the BMC of that node work, or fail in that way, from now on. Raises LabError for a node without one."""
    name, before = node.name, state.bmcs.modes.get(node.name, "ok")
    if node.bmc is None:
        raise LabError(f"{name} has no BMC in the lab's config", hint="nodes[].bmc describes one")
    bmcs = state.bmcs.model_copy(update={"modes": {**state.bmcs.modes, name: mode}})
    record(bmcs)
    sim = bmcs.sims.get(name)
    if sim is not None and sim.alive() and before != mode and "wrong-password" in (before, mode):
        sim.kill()
        _start_sim(directory, node, node.bmc, bmcs, record)


def troubles(state: State) -> tuple[str, ...]:
    """What is not as it should be, while the lab is up: `xen1: lies`."""
    found = []
    for node, _ in _with_bmc(state.cluster):
        mode = state.bmcs.modes.get(node.name, "ok")
        if state.switch is not None and not (_alive(state.bmcs.relay) and _alive(state.bmcs.sims.get(node.name))):
            found.append(f"{node.name}: not running")
        elif mode != "ok":
            found.append(f"{node.name}: {mode}")
    return tuple(found)


def sim_config(name: str, user: str, password: str, port: int) -> str:
    """The configuration of a node's ipmi_sim (ipmi_lan(5)), which holds the password."""
    guid = hashlib.sha256(name.encode()).hexdigest()[:32]
    # bmc_chassis needs no more than the standard library: -S and -s leave out the search for anything else.
    chassis = f'exec "$XENPAIR_PYTHON" -S -s -m lab.bmc_chassis {name}'
    return (
        f'name "{name}"\n'
        "set_working_mc 0x20\n"
        "startlan 1\n"
        f"  addr 127.0.0.1 {port}\n"
        "  priv_limit admin\n"
        f"  guid {guid}\n"
        "endlan\n"
        f"chassis_control '{chassis}'\n"
        f'user 2 true "{user}" "{password}" admin 10\n'
    )


SIM_COMMANDS = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0 0 0 0x80 0 0
mc_enable 0x20
"""
"""What ipmi_sim begins with (ipmi_sim_cmd(5)): one controller, the BMC at its usual address, 0x20, which is a chassis
device: 0x80 among the additional device support (IPMI 2.0, section 20.1, Get Device ID)."""


def _start_sim(directory: Path, node: Node, bmc: Bmc, bmcs: Bmcs, record: Record) -> Bmcs:
    name = node.name
    try:
        known: dict[str, str] = json.loads((directory / PASSWORDS).read_text())
    except FileNotFoundError:
        raise LabError(
            f"the lab in {directory} was made before labs had BMCs",
            hint="`invoke lab.reset` deletes it and its disks; the next `invoke lab.up` makes it anew",
        ) from None
    # One whose password nobody knows, and one that expects another than the nodes know, have a password all the same.
    password = known.get(name) if bmcs.modes.get(name) != "wrong-password" else None
    password = password or secrets.token_hex(_PASSWORD_LIMIT // 2)
    config, log = f"{name}.bmc.conf", directory / f"{name}.bmc.err"
    state = directory / f"{name}.bmc.state"
    # What it saved there would have precedence over the configuration.
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(mode=0o700)
    write_file(directory / COMMANDS, SIM_COMMANDS, mode=0o600)
    (directory / log_file(name)).touch(mode=0o600)
    bmc_orders.create(directory, name)
    argv = ["ipmi_sim", "-n", "-c", config, "-f", COMMANDS, "-s", state.name]
    environment = {"XENPAIR_PYTHON": sys.executable, "PYTHONPATH": str(SOURCES)}
    for attempt in range(3):
        port = _free_port()
        write_file(directory / config, sim_config(name, bmc.user, password, port), mode=0o600)
        process = Process.spawn(argv, cwd=directory, log=log, env=environment)
        bmcs = bmcs.model_copy(update={"sims": {**bmcs.sims, name: process}, "ports": {**bmcs.ports, name: port}})
        record(bmcs)
        if _wait(process, lambda: _answers(port)):  # noqa: B023 -- called in this very round
            return bmcs
        # Another program may have taken the port since it was found free.
        process.kill()
        if attempt == 2:
            break
    raise StartError(f"the BMC of {name} (ipmi_sim) did not start:\n{_end(log)}")


def _start_relay(directory: Path, bmcs: Bmcs, record: Record) -> None:
    (directory / bmc_relay.RELAY_END).unlink(missing_ok=True)
    log = directory / RELAY_LOG
    process = Process.spawn_module("lab.bmc_relay", cwd=directory, log=log)
    record(bmcs.model_copy(update={"relay": process}))
    if not _wait(process, (directory / bmc_relay.RELAY_END).exists):
        process.kill()
        raise StartError(f"the BMCs' relay did not start:\n{_end(log)}")


def _wait(process: Process, ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _STARTUP
    while time.monotonic() < deadline and process.alive():
        if ready():
            return True
        time.sleep(0.05)
    return False


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        s.connect(("127.0.0.1", port))
        try:
            s.send(_PING)
            return bool(s.recv(512))
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _with_bmc(cluster: Cluster) -> list[tuple[Node, Bmc]]:
    return [(node, node.bmc) for node in cluster.nodes if node.bmc]


def _alive(process: Process | None) -> bool:
    return process is not None and process.alive()


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:]
