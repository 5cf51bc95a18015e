"""Checks of guests: against each other, against the nodes, and one key of a guest against another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import IPv4Address

from config import capacity
from config.capacity import about
from config.findings import Location, yaml_path
from config.guest import is_carried, mac
from config.model import Cluster
from config.problems import LINKS, Check, Problem, card_name, is_host, nearby, repeated, unusable
from config.sizes import format_size

OWN_OPTIONS = frozenset(
    {
        "bootloader",
        "builder",
        "cmdline",
        "disk",
        "extra",
        "kernel",
        "maxmem",
        "memory",
        "name",
        "on_crash",
        "on_poweroff",
        "on_reboot",
        "on_soft_reset",
        "on_watchdog",
        "ramdisk",
        "root",
        "type",
        "uuid",
        "vcpus",
        "vif",
    }
)
"""Settings of xl.cfg(5) that follow from the guest's other keys, or that the supervisor relies on."""


def run(cluster: Cluster) -> Iterator[Problem]:
    """All problems of a whole cluster's guests: for a guest that comes from elsewhere than its config."""
    for check in CHECKS:
        yield from check(cluster)


def guest_names(cluster: Cluster) -> Iterator[Problem]:
    """A guest's name is the name of its domain and of its logical volume, and no other machine's."""
    yield from repeated([(("guests", i, "name"), guest.name) for i, guest in enumerate(cluster.guests)], "guest name")
    for i, guest in enumerate(cluster.guests):
        where = ("guests", i, "name")
        if guest.name == "snapshot" or guest.name.startswith("pvmove"):
            # lvm(8), VALID NAMES.
            yield Problem(where, f"LVM keeps the name {guest.name} for itself", "choose another name")
        if guest.name in {node.name for node in cluster.nodes}:
            yield Problem(where, f"{guest.name} is the name of a node", "choose another name for the guest")


def guests_have_a_home(cluster: Cluster) -> Iterator[Problem]:
    """A guest's home is one of the nodes."""
    known = [node.name for node in cluster.nodes]
    for i, guest in enumerate(cluster.guests):
        if guest.home not in known:
            close = get_close_matches(guest.home, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"the nodes are {' and '.join(known)}"
            yield Problem(("guests", i, "home"), f"there is no node {guest.home}", remedy)


def memory_for_every_guest(cluster: Cluster) -> Iterator[Problem]:
    """Each node can hold every guest of the pair, because one day it must."""
    for i, node in enumerate(cluster.nodes):
        if (need := capacity.memory_need(cluster, node)) > node.memory:
            guests = sum(map(capacity.guest_share, cluster.guests))
            problem = (
                f"{node.name} must be able to hold every guest, and has {format_size(node.memory)} where "
                f"{about(need)} are needed: guests {about(guests)}, dom0 {format_size(cluster.dom0.memory)}, "
                f"Xen {about(capacity.xen_share(node))}"
            )
            yield Problem(("nodes", i, "memory"), problem, "smaller guests, fewer of them, or more RAM in both nodes")


def disks_for_every_guest(cluster: Cluster) -> Iterator[Problem]:
    """The guests' disks fit on the smallest backing disk that the rules let pass."""
    if not cluster.guests:
        return
    rules = [cluster.disk_rule(node, "backing") for node in cluster.nodes]
    sizes = [rule.min_size for rule in rules if rule.min_size is not None]
    if not rules or len(sizes) < len(rules):
        problem = "there is no min_size, so nothing says that the guests' disks fit"
        yield Problem(("storage", "backing"), problem, "give the size of the disk as min_size", "warning")
        return
    room = capacity.volume_group_size(min(sizes))
    need = sum(capacity.volume_size(guest.disk) for guest in cluster.guests)
    if need > room:
        problem = (
            f"the guests' disks take {about(need)}, and a disk of min_size leaves {about(room)} in the volume group"
        )
        yield Problem(("guests",), problem, "smaller disks, fewer guests, or a larger min_size")


def guest_macs_differ(cluster: Cluster) -> Iterator[Problem]:
    """A guest's MAC address, given or derived, is no other guest's and no node's."""
    taken: dict[str, str] = {}
    names = set()
    for i, node in enumerate(cluster.nodes):
        taken |= {getattr(node.nics, link): yaml_path(("nodes", i, "nics", link)) for link in LINKS}
        if node.match.mac is not None:
            taken.setdefault(node.match.mac, yaml_path(("nodes", i, "match", "mac")))
    for i, guest in enumerate(cluster.guests):
        if guest.network.mac is None and guest.name in names:
            continue  # the same name gives the same address; guest_names says so
        names.add(guest.name)
        address = mac(cluster, guest)
        where: Location = ("guests", i, "network", "mac") if guest.network.mac else ("guests", i, "name")
        if address in taken:
            which = "" if guest.network.mac else f", which follows from the name {guest.name},"
            problem = f"{address}{which} is already the MAC address at {taken[address]}"
            yield Problem(where, problem, "give it another as network.mac")
        else:
            taken[address] = yaml_path(where)


def guest_bridges(cluster: Cluster) -> Iterator[Problem]:
    """A guest's own bridge is not called like a network card."""
    for i, guest in enumerate(cluster.guests):
        if guest.network.bridge is not None:
            yield from card_name(("guests", i, "network", "bridge"), guest.network.bridge)


def guest_addresses(cluster: Cluster) -> Iterator[Problem]:
    """A guest's address is a host's, and nobody else's."""
    taken: dict[IPv4Address, str] = {}
    for node in cluster.nodes:
        taken |= {getattr(node.addresses, link).ip: f"{node.name}'s {link} address" for link in LINKS}
        if node.bmc is not None:
            taken.setdefault(node.bmc.address, f"the BMC of {node.name}")
    if cluster.network.gateway is not None:
        taken.setdefault(cluster.network.gateway, "the gateway")
    for i, guest in enumerate(cluster.guests):
        where, address = ("guests", i, "network", "address"), guest.network.address
        if address == "dhcp":
            continue
        if address.ip in taken:
            yield Problem(where, f"{address.ip} is {taken[address.ip]} already", "give the guest one of its own")
        else:
            taken[address.ip] = f"the address of {guest.name}"
            yield from unusable(where, address)


def guest_gateways(cluster: Cluster) -> Iterator[Problem]:
    """A guest with an address of its own may have a gateway, in its network; with DHCP the server says which."""
    for i, guest in enumerate(cluster.guests):
        where, address, gateway = ("guests", i, "network", "gateway"), guest.network.address, guest.network.gateway
        if gateway is None:
            continue
        if address == "dhcp":
            yield Problem(where, "with dhcp the server names the gateway", "take it out, or give an address as well")
        elif address.network.prefixlen == 32:
            continue  # without a prefix length there is no network to compare; guest_addresses says so
        elif gateway == address.ip:
            yield Problem(where, f"{gateway} is the guest's own address", "give the router's address")
        elif gateway not in address.network:
            problem = f"{gateway} is not in {address.network}, where {guest.name} is"
            yield Problem(where, problem, nearby(address.network))
        elif not is_host(gateway, address.network):
            yield Problem(where, f"{gateway} is no host of {address.network}", nearby(address.network))


def guest_kernels(cluster: Cluster) -> Iterator[Problem]:
    """A guest that boots by itself brings its own kernel in a disk image, and its GRUB decides what it boots."""
    for i, guest in enumerate(cluster.guests):
        if guest.boot.by == "host":
            continue
        for key in ("kernel", "ramdisk", "arguments"):
            if getattr(guest.boot, key):
                problem = "with by: guest the GRUB in the guest decides, and this would have no effect"
                yield Problem(("guests", i, "boot", key), problem, "take it out, or write by: host")
        if guest.install is None or (guest.install.image or guest.install.suite) is None:
            problem = "a kernel of its own comes with a disk image or a suite, and none is given"
            yield Problem(("guests", i, "boot", "by"), problem, "add `install: {image: FILE}`, or write by: host")


def guest_installs(cluster: Cluster) -> Iterator[Problem]:
    """A disk is filled from one thing."""
    for i, guest in enumerate(cluster.guests):
        if guest.install is None:
            continue
        where = ("guests", i, "install")
        named = [what for what in ("tarball", "image", "suite") if getattr(guest.install, what) is not None]
        if len(named) > 1:
            yield Problem(where, f"names {' and '.join(named)}, and a disk is filled from one of them", "keep one")
        elif not named:
            yield Problem(
                where, "names no tarball, no image and no suite", "name one, or leave install out: an empty disk"
            )
        if guest.install.mirror is not None and guest.install.suite is None:
            yield Problem((*where, "mirror"), "is there for a suite alone", "take it out, or name a suite")


def guest_options(cluster: Cluster) -> Iterator[Problem]:
    """Further settings of xl.cfg(5) look like settings, and take nothing back that follows from other keys."""
    for i, guest in enumerate(cluster.guests):
        for key in guest.options:
            where = ("guests", i, "options", key)
            if key in OWN_OPTIONS:
                yield Problem(where, "xenpair sets this itself", "take it out; the guest's other keys decide")
            elif not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", key):
                yield Problem(where, "is no setting of xl.cfg", "use a-z, 0-9 and _, at most 64, no digit first")


def guest_file_names(cluster: Cluster) -> Iterator[Problem]:
    """Files are told apart on the seed medium, whose FAT knows no upper and lower case."""
    first: dict[str, tuple[str, Location]] = {}
    for i, guest in enumerate(cluster.guests):
        for below, file in guest.named_files():
            where = ("guests", i, *below)
            known, place = first.setdefault(file.lower(), (file, where))
            if known != file and is_carried(file):
                problem = f"{file} and {known} at {yaml_path(place)} differ only in upper and lower case"
                yield Problem(where, problem, "rename one: the FAT of the seed medium could not tell them apart")


CHECKS: tuple[Check, ...] = (
    guest_names,
    guests_have_a_home,
    memory_for_every_guest,
    disks_for_every_guest,
    guest_macs_differ,
    guest_bridges,
    guest_addresses,
    guest_gateways,
    guest_kernels,
    guest_installs,
    guest_options,
    guest_file_names,
)
