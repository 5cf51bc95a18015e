"""The network card towards the machines, and which addresses its network has to give."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import pairwise

from config.door import run
from config.model import Cluster
from images.serving.errors import ServeError

LEASES_WANTED, LEASES_NEEDED = 200, 4
"""Addresses that full DHCP gives out at most, and that two nodes of two cards each need."""


@dataclass(frozen=True)
class Leases:
    """A range of addresses, both ends included."""

    first: IPv4Address
    last: IPv4Address


def parse_addresses(shown: str) -> list[IPv4Interface]:
    """IPv4 addresses with their networks, out of `ip -json address show`."""
    return [
        IPv4Interface(f"{address['local']}/{address['prefixlen']}")
        for link in json.loads(shown or "[]")
        for address in link.get("addr_info", [])
        if address.get("family") == "inet"
    ]


def own_address(interface: str, wanted: IPv4Address | None) -> IPv4Interface:
    """Our address on that card: the wanted one, or its first. Raises ServeError where there is none."""
    shown = run(["ip", "-json", "address", "show", "dev", interface], check=False)
    if shown.returncode != 0:
        names = [link["ifname"] for link in json.loads(run(["ip", "-json", "link", "show"]).stdout)]
        raise ServeError(f"there is no network card {interface!r}", hint=f"there are {', '.join(names)}")
    found = parse_addresses(shown.stdout)
    for address in found:
        if wanted in (None, address.ip):
            return address
    if found:
        addresses = ", ".join(str(address.ip) for address in found)
        raise ServeError(f"{interface} has no address {wanted}", hint=f"it has {addresses}: name one of these")
    example = f"{wanted or '192.168.1.10'}/24"
    raise ServeError(f"{interface} has no IPv4 address", hint=f"`ip address add {example} dev {interface}`, then again")


def addresses_of(clusters: Iterable[Cluster]) -> set[IPv4Address]:
    """All addresses that configs speak of: nobody may be given one of these."""
    taken: set[IPv4Address] = set()
    for cluster in clusters:
        taken |= {*cluster.network.dns, *([cluster.network.gateway] if cluster.network.gateway else [])}
        for node in cluster.nodes:
            taken |= {node.addresses.cluster.ip, node.addresses.guest.ip, *([node.bmc.address] if node.bmc else [])}
        for guest in cluster.guests:
            taken |= {guest.network.address.ip} if isinstance(guest.network.address, IPv4Interface) else set()
            taken |= {guest.network.gateway} if guest.network.gateway else set()
    return taken


def free_range(network: IPv4Network, taken: Iterable[IPv4Address]) -> Leases:
    """The end of the network's longest stretch without a taken address. Raises ServeError where it is too short."""
    borders = sorted({network.network_address, network.broadcast_address, *(ip for ip in taken if ip in network)})
    after, before = max(pairwise(borders), key=lambda pair: int(pair[1]) - int(pair[0]), default=_NOTHING)
    length = int(before) - int(after) - 1
    if length < LEASES_NEEDED:
        raise ServeError(
            f"{network} has no {LEASES_NEEDED} free addresses in a row to give out",
            hint="give the card an address in a larger network",
        )
    return Leases(before - min(length, LEASES_WANTED), before - 1)


_NOTHING: Sequence[IPv4Address] = (IPv4Address(0), IPv4Address(0))
