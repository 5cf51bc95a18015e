"""The lab's wiring: two segments, the cables on them, and the gateway through which the host reaches the nodes.

The cluster segment joins the two nodes. The guest segment joins them too, and the gateway: a QEMU without a machine
that bridges QEMU's user-mode network stack onto the segment, so that a port on 127.0.0.1 leads to each node's SSH. The
nodes' BMCs are on it as well, at the end of one cable (lab.bmc_relay).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

from config.model import Cluster
from images.serving.interface import addresses_of, free_range
from lab.errors import LabError, StartError
from lab.media import Via
from lab.monitor import short_path
from lab.process import Process
from lab.switch import CONTROL, Cable, Faults, Reply

# No host name is spelled in capitals, so no node can be called that.
GATEWAY = Cable("guest", "HOST")
BMCS = Cable("guest", "BMC")
SERVER = Cable("guest", "SERVER")
"""Of the server that installs, where there is one."""
PAGE_PORT = 8088
"""Where it has its web page, at its own address."""


def node_cables(name: str) -> tuple[Cable, Cable]:
    """The cables of one node: guest first, as its network cards are."""
    return Cable("guest", name), Cable("cluster", name)


def cables(cluster: Cluster, via: Via | None = None) -> list[Cable]:
    """All cables of the lab."""
    shared = [
        GATEWAY,
        *([BMCS] if any(node.bmc for node in cluster.nodes) else []),
        *([SERVER] if via == "pxe" else []),
    ]
    return [cable for node in cluster.nodes for cable in node_cables(node.name)] + shared


def netdev(cable: Cable, identifier: str) -> str:
    """QEMU's -netdev value for its end of a cable (net/dgram.c, since QEMU 7.2)."""
    return (
        f"dgram,id={identifier},local.type=unix,local.path={cable.nic_end},"
        f"remote.type=unix,remote.path={cable.switch_end}"
    )


def gateway_addresses(cluster: Cluster) -> tuple[IPv4Address, IPv4Address]:
    """The gateway's own address and its name server's, on the guest network.

    The gateway that the config names, where it is on that network, so that the nodes' default route leads there;
    otherwise addresses from the network's upper end that nobody has.
    """
    own, dns = _free_addresses(cluster, 2)
    return own, dns


def server_address(cluster: Cluster) -> IPv4Address:
    """The install server's address on the guest network: one that the gateway leaves. Raises LabError."""
    return _free_addresses(cluster, 3)[2]


def _free_addresses(cluster: Cluster, wanted: int) -> list[IPv4Address]:
    network = cluster.nodes[0].addresses.guest.network
    taken = {node.addresses.guest.ip for node in cluster.nodes}
    taken |= {node.bmc.address for node in cluster.nodes if node.bmc}
    # From the upper end, and not by listing: a /8 has 16 million hosts.
    candidates = (IPv4Address(int(network.broadcast_address) - i) for i in range(1, min(network.num_addresses - 1, 9)))
    free = [address for address in candidates if address not in taken]
    if (named := cluster.network.gateway) is not None and named in network:
        free = [named, *(address for address in free if address != named)]
    if len(free) < wanted:
        raise LabError(
            f"the guest network {network} has no room for the lab's gateway",
            hint=f"leave {wanted} addresses of it free: nodes[].addresses.guest with a shorter prefix",
        )
    return free[:wanted]


def gateway_argv(cluster: Cluster, ports: Mapping[str, int], *, qmp: str, page: int | None = None) -> list[str]:
    """QEMU's command line for the gateway. ports: by node, the port on 127.0.0.1 that leads to its SSH.

    page: the port that leads to the install server's web page; then there is one, and the gateway's DHCP gives out no
    address that the config speaks of. Nodes cannot reach the world through it (restrict=on), only answer.
    """
    address, dns = gateway_addresses(cluster)
    network = cluster.nodes[0].addresses.guest.network
    user = f"user,id=user,net={network},host={address},dns={dns},ipv6=off,restrict=on"
    for node in cluster.nodes:
        user += f",hostfwd=tcp:127.0.0.1:{ports[node.name]}-{node.addresses.guest.ip}:22"
    if page is not None:
        server = server_address(cluster)
        leases = free_range(network, {*addresses_of([cluster]), address, dns, server})
        user += f",dhcpstart={leases.first},hostfwd=tcp:127.0.0.1:{page}-{server}:{PAGE_PORT}"
    argv = ["qemu-system-x86_64", "-name", "gateway", "-machine", "none", "-nodefaults", "-display", "none"]
    argv += ["-qmp", f"unix:{qmp},server=on,wait=off", "-netdev", user, "-netdev", netdev(GATEWAY, "segment")]
    return [
        *argv,
        "-netdev",
        "hubport,id=hub0,hubid=0,netdev=user",
        "-netdev",
        "hubport,id=hub1,hubid=0,netdev=segment",
    ]


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def control(directory: Path, faults: Faults | None = None) -> Reply:
    """Put faults in force, in place of all others, or (None) only ask the switch for its counters.

    Raises LabError when the switch cannot be reached or refuses.
    """
    line = (faults.model_dump_json() if faults is not None else "") + "\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, short_path(directory, CONTROL) as path:
            connection.settimeout(10)
            connection.connect(path)
            connection.sendall(line.encode())
            with connection.makefile("rb") as lines:
                answer = lines.readline()
    except OSError as e:
        raise LabError(f"the lab's switch does not answer: {e}") from e
    if not answer:
        raise LabError("the lab's switch hung up")
    reply = Reply.model_validate_json(answer)
    if reply.error:
        raise LabError(f"the lab's switch refused: {reply.error}")
    return reply


def wait_ready(process: Process, directory: Path, log: Path, timeout: float = 20) -> None:
    """Wait until the switch just started answers. Raises StartError when it does not within timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            control(directory)
        except LabError:
            if process.alive() and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            process.kill()
            raise StartError(f"the lab's switch did not start:\n{log.read_text(errors='replace')[-1000:]}") from None
        else:
            return
