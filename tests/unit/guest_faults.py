"""Guests in a config: how a test writes them, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path

from config.guest import Guest, mac
from config.loader import load

Change = tuple[str, str]
"""A piece of the example, and what takes its place."""
Case = tuple[str, list[Change], str, str, str]
"""Check, changes, YAML path, a piece of the line it is reported at, words of the message."""

DERIVED = mac(
    load(Path("config/cluster.yaml")).cluster,
    Guest.model_validate({"name": "web01", "memory": "1G", "disk": "1G", "home": "xen1"}),
)


def guests(*flow: str) -> Change:
    return "guests: []", f"guests: [{', '.join(flow)}]"


def guest(name: str, memory: str = "64M", disk: str = "64M", home: str = "xen1", more: str = "") -> str:
    return f"{{name: {name}, memory: {memory}, disk: {disk}, home: {home}{', ' if more else ''}{more}}}"


def network(name: str, keys: str) -> str:
    return guest(name, more=f"network: {{{keys}}}")


GUEST_ERRORS: list[Case] = [
    (
        "guest_macs_differ",
        [guests(network("a", "mac: 00:16:3e:00:00:01"), network("b", "mac: 00-16-3E-00-00-01"))],
        "guests[1].network.mac",
        "guests:",
        "00:16:3e:00:00:01 is already the MAC address at guests[0].network.mac",
    ),
    (
        "guest_macs_differ",
        [guests(network("a", "mac: 52:54:00:10:32:02"))],
        "guests[0].network.mac",
        "guests:",
        "already the MAC address at nodes[1].nics.cluster",
    ),
    (
        "guest_macs_differ",
        [guests(network("a", f"mac: {DERIVED}"), guest("web01"))],
        "guests[1].name",
        "guests:",
        f"{DERIVED}, which follows from the name web01, is already the MAC address at guests[0].network.mac",
    ),
    ("guest_bridges", [guests(network("a", "bridge: eth1"))], "guests[0].network.bridge", "guests:", "the kernel or"),
    (
        "guest_addresses",
        [guests(network("a", "address: 192.168.132.50/24"), network("b", "address: 192.168.132.50/16"))],
        "guests[1].network.address",
        "guests:",
        "192.168.132.50 is the address of a already",
    ),
    (
        "guest_addresses",
        [guests(network("a", "address: 10.10.32.2/24"))],
        "guests[0].network.address",
        "guests:",
        "10.10.32.2 is xen2's cluster address already",
    ),
    (
        "guest_addresses",
        [guests(network("a", "address: 192.168.132.241/24"))],
        "guests[0].network.address",
        "guests:",
        "is the BMC of xen1 already",
    ),
    (
        "guest_addresses",
        [("  bridge: xenbr0", "  gateway: 192.168.132.254"), guests(network("a", "address: 192.168.132.254/24"))],
        "guests[0].network.address",
        "guests:",
        "is the gateway already",
    ),
    (
        "guest_addresses",
        [guests(network("a", "address: 192.168.132.50"))],
        "guests[0].network.address",
        "guests:",
        "write it like 192.168.132.50/24",
    ),
    (
        "guest_gateways",
        [guests(network("a", "gateway: 192.168.132.254"))],
        "guests[0].network.gateway",
        "guests:",
        "with dhcp the server",
    ),
    (
        "guest_gateways",
        [guests(network("a", "address: 192.168.132.50/24, gateway: 192.168.133.254"))],
        "guests[0].network.gateway",
        "guests:",
        "not in 192.168.132.0/24, where a is",
    ),
    (
        "guest_gateways",
        [guests(network("a", "address: 192.168.132.50/24, gateway: 192.168.132.50"))],
        "guests[0].network.gateway",
        "guests:",
        "the guest's own address",
    ),
    (
        "guest_gateways",
        [guests(network("a", "address: 192.168.132.50/24, gateway: 192.168.132.0"))],
        "guests[0].network.gateway",
        "guests:",
        "no host of",
    ),
    (
        "guest_kernels",
        [guests(guest("a", more="boot: {by: guest}"))],
        "guests[0].boot.by",
        "guests:",
        "add `install: {image: FILE}`",
    ),
    (
        "guest_kernels",
        [guests(guest("a", more="boot: {by: guest}, install: {tarball: a.tar}"))],
        "guests[0].boot.by",
        "guests:",
        "comes with a disk image",
    ),
    *(
        (
            "guest_kernels",
            [guests(guest("a", more=f"boot: {{by: guest, {key}: x}}, install: {{image: a.img}}"))],
            f"guests[0].boot.{key}",
            "guests:",
            "the GRUB in the guest decides",
        )
        for key in ("kernel", "ramdisk", "arguments")
    ),
    (
        "guest_installs",
        [guests(guest("a", more="install: {tarball: z.tar, mirror: 'http://a/debian'}"))],
        "guests[0].install.mirror",
        "mirror:",
        "for a suite alone",
    ),
    ("guest_installs", [guests(guest("a", more="install: {}"))], "guests[0].install", "guests:", "names no tarball"),
    (
        "guest_installs",
        [guests(guest("a", more="install: {tarball: a.tar, image: a.img}"))],
        "guests[0].install",
        "guests:",
        "names tarball and image",
    ),
    (
        "guest_options",
        [guests(guest("a", more="options: {on_crash: restart}"))],
        "guests[0].options.on_crash",
        "guests:",
        "xenpair sets this itself",
    ),
    (
        "guest_options",
        [guests(guest("a", more="options: {Tsc: native}"))],
        "guests[0].options.Tsc",
        "guests:",
        "no setting of xl.cfg",
    ),
    (
        "guest_file_names",
        [guests(guest("a", more="install: {tarball: a.tar}"), guest("b", more="install: {tarball: A.tar}"))],
        "guests[1].install.tarball",
        "guests:",
        "A.tar and a.tar at guests[0].install.tarball differ only",
    ),
]
