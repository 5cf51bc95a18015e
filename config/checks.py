"""Checks that look at more than one value. Each takes the cluster and yields what is wrong with it.

A check reads what it needs and nothing else. Where a part of the config did not validate, run() is handed a cluster
that lacks that part, and only the checks that reach for it stop there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from config import debian_checks, guest_checks
from config.diskrules import is_empty, mirror_faults, proven_apart, rules, unsafe_wipes
from config.findings import Location, yaml_path
from config.model import Cluster
from config.problems import LINKS, Check, Problem, card_name, is_host, nearby, repeated, unusable
from config.sizes import format_size

SSH_PORT = 22


def run(cluster: Cluster, *, complete: bool = True, overlooking: Collection[Check] = ()) -> Iterator[Problem]:
    """All problems of a cluster. complete says that no part of it is missing; see config.shape.salvage."""
    for check in CHECKS:
        if check in overlooking:
            continue
        try:
            yield from check(cluster)
        except AttributeError:
            if complete:
                raise


def two_nodes(cluster: Cluster) -> Iterator[Problem]:
    """A cluster is a pair."""
    if (count := len(cluster.nodes)) != 2:
        yield Problem(("nodes",), f"there must be exactly two nodes, and there are {count}", "describe two servers")


def snapshot_is_kept_somewhere(cluster: Cluster) -> Iterator[Problem]:
    """Debian's ordinary mirrors hold no past."""
    if cluster.debian.snapshot and not cluster.debian.snapshot_mirror:
        remedy = "set debian.snapshot_mirror to the URL of a mirror that keeps the archive's past"
        yield Problem(("debian", "snapshot"), "no snapshot mirror is configured", remedy)


def names(cluster: Cluster) -> Iterator[Problem]:
    """Nodes and guests have names of their own; names that Linux, DRBD or LVM keep for themselves are not used."""
    nodes = [(("nodes", i, "name"), node.name) for i, node in enumerate(cluster.nodes)]
    yield from repeated(nodes, "node name")
    for where, name in nodes:
        if name == "localhost":
            yield Problem(where, "localhost is every machine's name for itself", "choose another name, like xen1")


def storage_names(cluster: Cluster) -> Iterator[Problem]:
    """Names below /dev and in drbdadm's language are taken."""
    group, resource = cluster.storage.volume_group, cluster.storage.drbd.resource
    if group in {"block", "char", "disk", "drbd", "input", "mapper", "mqueue", "net", "pts", "shm", "snd", "xen"}:
        problem = f"/dev/{group} exists already, and vgcreate refuses such a name"
        yield Problem(("storage", "volume_group"), problem, "choose another name, like data")
    if resource == "all":
        problem = "to drbdadm the name all means every resource"
        yield Problem(("storage", "drbd", "resource"), problem, "choose another name, like r0")


def network_cards(cluster: Cluster) -> Iterator[Problem]:
    """No card has two jobs."""
    cards = [
        (("nodes", i, "nics", link), getattr(node.nics, link)) for i, node in enumerate(cluster.nodes) for link in LINKS
    ]
    yield from repeated(cards, "MAC address")


def match_rules(cluster: Cluster) -> Iterator[Problem]:
    """Each node is recognised by something, and by nothing that the other has too."""
    for i, node in enumerate(cluster.nodes):
        if node.match.mac is None and node.match.serial is None and node.match.uuid is None:
            yield Problem(("nodes", i, "match"), "matches every machine", "give one of mac, serial, uuid")
        for j, other in enumerate(cluster.nodes):
            if i != j and node.match.mac is not None and node.match.mac in {other.nics.guest, other.nics.cluster}:
                problem = f"{node.match.mac} is a network card of {other.name}"
                yield Problem(("nodes", i, "match", "mac"), problem, f"give the MAC address of a card of {node.name}")


def match_rules_differ(cluster: Cluster) -> Iterator[Problem]:
    """One machine cannot be both nodes: some criterion that both name must differ."""
    for (_, one), (j, other) in pairwise(enumerate(cluster.nodes)):
        both = [
            (key, str(mine).lower() == str(theirs).lower())
            for key in ("mac", "serial", "uuid")
            if (mine := getattr(one.match, key)) is not None and (theirs := getattr(other.match, key)) is not None
        ]
        if (both and all(same for _, same in both)) or ("mac", True) in both:
            where = ("nodes", j, "match", next(key for key, same in both if same))
            yield Problem(where, f"matches the same machine as {one.name}", "give what only this machine has")


def addresses_differ(cluster: Cluster) -> Iterator[Problem]:
    """Every address is somebody's alone."""
    own: list[tuple[Location, object]] = [
        (("nodes", i, "addresses", link), getattr(node.addresses, link).ip)
        for i, node in enumerate(cluster.nodes)
        for link in LINKS
    ]
    yield from repeated(own, "address")
    taken = {address: where for where, address in own}
    if (gateway := cluster.network.gateway) in taken:
        problem = f"{gateway} is the node's own address at {yaml_path(taken[gateway])}"
        yield Problem(("network", "gateway"), problem, "give the router's address")


def bmc_addresses_differ(cluster: Cluster) -> Iterator[Problem]:
    """A management controller is reached at an address and port of its own."""
    controllers = [(("nodes", i, "bmc", "address"), node.bmc) for i, node in enumerate(cluster.nodes) if node.bmc]
    yield from repeated([(where, (str(bmc.address), bmc.port)) for where, bmc in controllers], "BMC address and port")
    own = {getattr(node.addresses, link).ip: node for node in cluster.nodes for link in LINKS}
    for where, bmc in controllers:
        if bmc.address in own:
            problem = f"{bmc.address} is an address of {own[bmc.address].name} itself, which is gone when its power is"
            yield Problem(where, problem, "give the management controller's own address")
        elif bmc.address == cluster.network.gateway:
            yield Problem(where, f"{bmc.address} is the gateway", "give the management controller's own address")


def usable_addresses(cluster: Cluster) -> Iterator[Problem]:
    """A node's address is a host's, with a prefix length that leaves room for the peer."""
    for i, node in enumerate(cluster.nodes):
        for link in LINKS:
            yield from unusable(("nodes", i, "addresses", link), getattr(node.addresses, link))


def peers_share_networks(cluster: Cluster) -> Iterator[Problem]:
    """On each link both nodes are in one network."""
    for (_, one), (j, other) in pairwise(enumerate(cluster.nodes)):
        for link in LINKS:
            mine, theirs = getattr(other.addresses, link), getattr(one.addresses, link)
            where = ("nodes", j, "addresses", link)
            if 32 in {mine.network.prefixlen, theirs.network.prefixlen}:
                continue  # without a prefix length there is no network to compare; usable_addresses says so
            if mine.network.prefixlen != theirs.network.prefixlen:
                problem = f"prefix length /{mine.network.prefixlen}, and {one.name} has /{theirs.network.prefixlen}"
                yield Problem(where, problem, "give both nodes the same")
            elif mine.network != theirs.network:
                problem = f"{mine.ip} is not in {theirs.network}, where {one.name} is"
                yield Problem(where, problem, f"give it an address of {theirs.network}")


def links_are_apart(cluster: Cluster) -> Iterator[Problem]:
    """The guest network and the cluster network do not overlap: else a route may lead DRBD over the guests' card."""
    for i, node in enumerate(cluster.nodes):
        guest, link = node.addresses.guest.network, node.addresses.cluster.network
        if guest.overlaps(link):
            problem = f"the guest network {guest} overlaps the cluster network {link}"
            yield Problem(("nodes", i, "addresses", "guest"), problem, "use two networks")


def gateway_is_near(cluster: Cluster) -> Iterator[Problem]:
    """The gateway is a host on the guest network."""
    gateway, where = cluster.network.gateway, ("network", "gateway")
    if gateway is None:
        return
    for node in cluster.nodes:
        network = node.addresses.guest.network
        if gateway not in network:
            problem = f"{gateway} is not in {network}, the guest network of {node.name}"
            yield Problem(where, problem, nearby(network))
            return
        if not is_host(gateway, network):
            yield Problem(where, f"{gateway} is no host of {network}", nearby(network))
            return


def bridge_name(cluster: Cluster) -> Iterator[Problem]:
    """The bridge is not called like a network card."""
    yield from card_name(("network", "bridge"), cluster.network.bridge)


def ports_differ(cluster: Cluster) -> Iterator[Problem]:
    """Each service on the cluster link has a number of its own, which keeps firewalls and captures readable."""
    drbd, join = ("storage", "drbd", "port"), ("network", "join_port")
    ports = [
        (("heartbeat", "port"), cluster.heartbeat.port),
        (drbd, cluster.storage.drbd.port),
        (join, cluster.network.join_port),
    ]
    yield from repeated(ports, "port")
    for where, port in ports[1:]:
        if port == SSH_PORT:
            yield Problem(where, "22 is the port of SSH", "choose a free port")


def heartbeat_warntime(cluster: Cluster) -> Iterator[Problem]:
    """A beat is late only after one or two more could have come."""
    where, times = ("heartbeat", "warntime"), cluster.heartbeat
    if times.warntime <= times.keepalive:
        problem = f"{times.warntime} s is no more than keepalive, {times.keepalive} s: every beat would be late"
        yield Problem(where, problem, f"at least {2 * times.keepalive}")
    elif times.warntime < 2 * times.keepalive:
        problem = f"{times.warntime} s is less than two keepalives of {times.keepalive} s: one lost beat is logged"
        yield Problem(where, problem, f"better {2 * times.keepalive} or more", "warning")


def heartbeat_deadtime(cluster: Cluster) -> Iterator[Problem]:
    """A node is warned about long before it is declared dead."""
    times = cluster.heartbeat
    if times.deadtime <= 2 * times.warntime:
        problem = f"{times.deadtime} s is not more than twice warntime, {times.warntime} s"
        yield Problem(("heartbeat", "deadtime"), problem, f"at least {2 * times.warntime + 1}, or a shorter warntime")


def heartbeat_initdead(cluster: Cluster) -> Iterator[Problem]:
    """Networks are slow to come up: the first wait is at least twice the later ones (ha.cf(5), initdead)."""
    times = cluster.heartbeat
    if times.initdead < 2 * times.deadtime:
        problem = f"{times.initdead} s is less than twice deadtime, {times.deadtime} s"
        yield Problem(("heartbeat", "initdead"), problem, f"at least {2 * times.deadtime}")


def disk_rules(cluster: Cluster) -> Iterator[Problem]:
    """A rule asks for something, and for a size that exists."""
    for where, rule in rules(cluster):
        if is_empty(rule):
            yield Problem(where, "matches every disk", "give one of serial, wwn, model, min_size, max_size")
        if rule.min_size and rule.max_size and rule.min_size > rule.max_size:
            problem = f"{format_size(rule.min_size)} is more than max_size, {format_size(rule.max_size)}"
            yield Problem((*where, "min_size"), problem, "exchange them")


def mirrors_take_two_disks(cluster: Cluster) -> Iterator[Problem]:
    """A rule can mean as many disks as it asks for."""
    yield from (Problem(*fault) for fault in mirror_faults(cluster))


def wipe_names_a_disk(cluster: Cluster) -> Iterator[Problem]:
    """What is to be wiped is one disk of one node, by its serial number."""
    yield from (Problem(*fault) for fault in unsafe_wipes(cluster))


def backing_is_not_system(cluster: Cluster) -> Iterator[Problem]:
    """DRBD's disk can never be the one that the dom0 is on: the two rules of a node exclude each other."""
    reported = set()
    for i, node in enumerate(cluster.nodes):
        system, backing = cluster.disk_rule(node, "system"), cluster.disk_rule(node, "backing")
        where: Location = ("nodes", i, "disks", "backing") if node.disks.backing else ("storage", "backing")
        pair = (where, system)
        if not proven_apart(system, backing) and pair not in reported and not (is_empty(system) or is_empty(backing)):
            reported.add(pair)
            of = f" of {node.name}" if node.disks.system else ""
            remedy = "give both rules a serial, wwn, model or size range that no disk can meet at once"
            yield Problem(where, f"the same disk could match this and the system rule{of}", remedy)


def fencing(cluster: Cluster) -> Iterator[Problem]:
    """Power control works in both directions, or in none."""
    without = [i for i, node in enumerate(cluster.nodes) if node.bmc is None]
    if len(without) == len(cluster.nodes):
        problem = (
            "no bmc: nothing can be fenced; when a node is lost, the other one's storage freezes, and all guests with "
            "it, until an administrator confirms by hand that the lost node is off"
        )
        yield Problem(("nodes",), problem, "give both nodes a bmc", "warning")
    elif without:
        name = cluster.nodes[without[0]].name
        yield Problem(
            ("nodes", without[0]), f"{name} has no bmc, and its peer has one", "give both nodes one, or neither"
        )


def administrators(cluster: Cluster) -> Iterator[Problem]:
    """Somebody can log in."""
    if not cluster.admin.ssh_keys:
        problem = "no key: nobody will be able to log in, because there are no passwords"
        yield Problem(("admin", "ssh_keys"), problem, "add the line of your .pub file", "warning")


CHECKS: tuple[Check, ...] = (
    two_nodes,
    snapshot_is_kept_somewhere,
    names,
    storage_names,
    network_cards,
    match_rules,
    match_rules_differ,
    addresses_differ,
    bmc_addresses_differ,
    usable_addresses,
    peers_share_networks,
    links_are_apart,
    gateway_is_near,
    bridge_name,
    ports_differ,
    heartbeat_warntime,
    heartbeat_deadtime,
    heartbeat_initdead,
    disk_rules,
    mirrors_take_two_disks,
    wipe_names_a_disk,
    backing_is_not_system,
    fencing,
    administrators,
    *debian_checks.CHECKS,
    *guest_checks.CHECKS,
)
