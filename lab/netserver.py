"""The server that installs a lab's nodes over the network: `invoke serve`, in a network namespace of its own.

A machine-less QEMU joins the guest segment to a tap device in that namespace. Addresses come from the gateway's DHCP,
so the server is a proxy beside it, as on most networks.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from config.door import run
from config.errors import CommandError
from config.model import Cluster
from lab import monitor, ssh
from lab.errors import StartError
from lab.network import PAGE_PORT, SERVER, netdev, server_address
from lab.origin import CONFIG, SERVED
from lab.process import SOURCES, Process
from lab.state import State

CARD = "guest"
LOG = "server.err"
_QMP = "uplink.qmp"
_READY = "boot the machines from the network now"
"""The last line that `invoke serve` says before it serves."""
_STARTUP = 60.0
WINDOW = "24h"
"""Longer than anybody keeps a lab up: a server that ends by itself would be missed by the next wait."""

Update = Callable[..., State]


def namespace(directory: Path) -> str:
    """The name of the lab's namespace: no other lab on this host has it."""
    return f"xenpair-{hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:8]}"


def uplink_argv(name: str) -> list[str]:
    """QEMU's command line for what joins the namespace of that name to the guest segment."""
    argv = ["ip", "netns", "exec", name]
    argv += ["qemu-system-x86_64", "-name", "uplink", "-machine", "none", "-nodefaults", "-display", "none"]
    argv += ["-qmp", f"unix:{_QMP},server=on,wait=off", "-netdev", netdev(SERVER, "segment")]
    argv += ["-netdev", f"tap,id=tap,ifname={CARD},script=no,downscript=no"]
    for number, end in enumerate(("tap", "segment")):
        argv += ["-netdev", f"hubport,id=hub{number},hubid=0,netdev={end}"]
    return argv


def server_argv(name: str, directory: Path, cluster: Cluster) -> list[str]:
    """The command line of the server in the namespace of that name; the gateway leads to its page."""
    return [
        *("ip", "netns", "exec", name, sys.executable, "-m", "invoke", "--search-root", str(SOURCES)),
        *("serve", "--interface", CARD, "--config", str(directory / SERVED / CONFIG)),
        *("--window", WINDOW, "--page", f"{server_address(cluster)}:{PAGE_PORT}"),
        *("--out", str(directory / "netboot"), "--authorized-keys", str((directory / ssh.KEY).with_suffix(".pub"))),
    ]


def start(directory: Path, state: State, update: Update) -> None:
    """Start what does not run. Raises StartError."""
    name = namespace(directory)
    if state.uplink is None or not state.uplink.alive():
        state = stop(state, directory, update)
        _join(directory, name, state.cluster, update)
    if state.server is None or not state.server.alive():
        log = directory / LOG
        begin = log.stat().st_size if log.exists() else 0
        process = Process.spawn(server_argv(name, directory, state.cluster), cwd=directory, log=log)
        update(server=process)
        _wait_ready(process, log, begin)


def stop(state: State, directory: Path, update: Update) -> State:
    """End both, and the namespace."""
    for process in (state.server, state.uplink):
        if process is not None:
            process.terminate()
    if state.via == "pxe":
        run(["ip", "netns", "delete", namespace(directory)], check=False)
    return update(server=None, uplink=None)


def _join(directory: Path, name: str, cluster: Cluster, update: Update) -> None:
    log = directory / "uplink.err"
    try:
        run(["ip", "netns", "add", name])
        process = Process.spawn(uplink_argv(name), cwd=directory, log=log)
        update(uplink=process)
        monitor.wait_ready(process, directory, _QMP, log)
        prefix = cluster.nodes[0].addresses.guest.network.prefixlen
        run(["ip", "-n", name, "address", "add", f"{server_address(cluster)}/{prefix}", "dev", CARD])
        for card in ("lo", CARD):
            run(["ip", "-n", name, "link", "set", card, "up"])
    except CommandError as e:
        raise StartError(f"the install server's network cannot be made: {e}") from e


def _wait_ready(process: Process, log: Path, begin: int) -> None:
    deadline = time.monotonic() + _STARTUP
    while _READY not in (said := log.read_bytes()[begin:].decode(errors="replace")):
        if not process.alive() or time.monotonic() > deadline:
            process.kill()
            raise StartError(f"the install server did not start:\n{said.strip()[-1000:]}")
        time.sleep(0.1)
