"""What the checks of a config have in common: what they find, and how two of a kind are found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Literal, NamedTuple

from config.findings import Location, yaml_path

if TYPE_CHECKING:
    from config.model import Cluster

LINKS: tuple[Literal["cluster", "guest"], ...] = ("cluster", "guest")

_CARD_NAME = re.compile(
    r"lo|(eth|wlan|bond|dummy|ib|sit|tap|tun|veth|vif)\d+|(en|ib|sl|wl|ww)([abcdiopsuv]\d|x[0-9a-f]).*"
)
"""systemd.net-naming-scheme(7), and the kernel's own drivers."""


class Problem(NamedTuple):
    """What a check found: where, what is wrong, what would be right."""

    where: Location
    problem: str
    remedy: str
    severity: Literal["error", "warning"] = "error"


Check = Callable[["Cluster"], Iterator[Problem]]


def repeated(values: Iterable[tuple[Location, object]], what: str) -> Iterator[Problem]:
    """One problem for each value that stood somewhere before."""
    first: dict[object, Location] = {}
    for where, value in values:
        if value in first:
            text = ", port ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            problem = f"{text} is already the {what} at {yaml_path(first[value])}"
            yield Problem(where, problem, f"give each its own {what}")
        else:
            first[value] = where


def unusable(where: Location, interface: IPv4Interface) -> Iterator[Problem]:
    """Where an address is no host's, or has no prefix length that leaves room for others."""
    network = interface.network
    if network.prefixlen == 32:
        yield Problem(where, f"{interface.ip} has no prefix length", f"write it like {interface.ip}/24")
    elif network.prefixlen < 31 and interface.ip == network.network_address:
        yield Problem(where, f"{interface.ip} is the address of the network {network}", "give a host's address")
    elif network.prefixlen < 31 and interface.ip == network.broadcast_address:
        yield Problem(where, f"{interface.ip} is the broadcast address of {network}", "give a host's address")
    elif interface.is_multicast or interface.is_loopback or interface.is_unspecified or interface.is_reserved:
        yield Problem(where, f"{interface.ip} is no address of a network card", "give a host's address")


def card_name(where: Location, bridge: str) -> Iterator[Problem]:
    """Where a bridge is called like a network card."""
    if _CARD_NAME.fullmatch(bridge):
        problem = f"{bridge} is a name that the kernel or udev gives to a network card"
        yield Problem(where, problem, "choose another name, like xenbr0")


def is_host(address: IPv4Address, network: IPv4Network) -> bool:
    """Whether an address of that network is a host's. RFC 3021: in a network of two both are."""
    return network.prefixlen >= 31 or address not in {network.network_address, network.broadcast_address}


def nearby(network: IPv4Network) -> str:
    """The remedy for a gateway that is elsewhere."""
    last: IPv4Address = network.broadcast_address - 1 if network.num_addresses > 2 else network.broadcast_address
    return f"give the router's address there, like {last}"
