"""The two links: the cluster card with its address, the guest card under the bridge, and what may come in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from config.door import run
from firstboot.errors import NodeError
from firstboot.node import ThisNode
from firstboot.steps import Work

FILES = {
    "etc/systemd/network/10-cluster.network": 0o644,
    "etc/systemd/network/10-guest.network": 0o644,
    "etc/systemd/network/20-bridge.netdev": 0o644,
    "etc/systemd/network/20-bridge.network": 0o644,
    "etc/systemd/system/systemd-networkd-wait-online.service.d/xenpair.conf": 0o644,
    "etc/nftables.conf": 0o755,
}
LIMIT = 180.0
"""Seconds for networkd to give both links their addresses: a fraction of one on hardware, a minute on a busy lab."""


class Network:
    """Addresses and the packet filter."""

    name: ClassVar[str] = "network"
    text: ClassVar[str] = "cluster card with its address, guest card under the bridge, packet filter"

    def check(self, work: Work) -> bool:
        """Files are there, both addresses are up, the guest card is a port of the bridge, the filter is loaded."""
        node = work.node
        return (
            node.is_deployed(FILES)
            and _is_up(node)
            and run(["nft", "list", "table", "inet", "xenpair"], check=False).returncode == 0
        )

    def apply(self, work: Work) -> None:
        """Filter first, so that no link is ever up without it."""
        node = work.node
        node.deploy(FILES)
        run(["nft", "-f", node.places.at("etc/nftables.conf")])
        run(["systemctl", "start", "systemd-networkd.service"])
        deadline = time.monotonic() + LIMIT
        reloaded = False
        while not (reloaded and _is_up(node)):
            if time.monotonic() > deadline:
                raise NodeError(
                    f"networkd has not configured {node.nics.cluster} and {node.cluster.network.bridge} "
                    f"within {LIMIT:.0f} s",
                    hint="see `networkctl status` and `journalctl -u systemd-networkd`",
                )
            # networkd, just started, may answer later than networkctl waits (25 s, sd_bus_call(3)): then again.
            reloaded = reloaded or run(["networkctl", "reload"], check=False).returncode == 0
            time.sleep(0.5)


def _is_up(node: ThisNode) -> bool:
    """Whether both links have their addresses and the guest card is a port of the bridge: each has its own time."""
    bridge = node.cluster.network.bridge
    seen = run(["ip", "-brief", "-4", "address"]).stdout.splitlines()
    by_name = {line.split()[0]: line.split()[2:] for line in seen if line.split()}
    return (
        str(node.me.addresses.cluster) in by_name.get(node.nics.cluster, [])
        and str(node.me.addresses.guest) in by_name.get(bridge, [])
        and Path(f"/sys/class/net/{bridge}/brif/{node.nics.guest}").exists()
    )
