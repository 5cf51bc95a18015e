"""The model of one cluster: what cluster.yaml may say, with types, units and defaults.

Every value here is in the unit that its docstring names; sizes are bytes and are written like 4G or 512M (powers of
1024, as lvm and xl read them): config.values. What the dom0 is made of is described in config.debian, a guest in
config.guest. Checks that look at more than one value live in config.checks and its likes.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv4Interface
from typing import Annotated, Literal

from pydantic import Field

from config.debian import Backport, Debian
from config.guest import Guest
from config.values import (
    BridgeName,
    DiskText,
    DiskTexts,
    Domain,
    HostName,
    Mac,
    Model,
    Port,
    Seconds,
    Size,
    SshKey,
    VolumeGroupName,
    WholeNumber,
    YesOrNo,
)

__all__ = [
    "Addresses",
    "Admin",
    "Backport",
    "Bmc",
    "Cluster",
    "ClusterSection",
    "Debian",
    "DiskRule",
    "Dom0",
    "Drbd",
    "Fencing",
    "Guest",
    "Heartbeat",
    "Match",
    "Model",
    "Network",
    "Nics",
    "Node",
    "NodeDisks",
    "SshKey",
    "Storage",
]


class ClusterSection(Model):
    """What the pair is called."""

    name: HostName
    """Name of the cluster; names its secrets file too."""
    domain: Domain
    """DNS domain of the nodes."""


class Admin(Model):
    """Who may log in to the dom0s. There are no passwords."""

    ssh_keys: tuple[SshKey, ...] = ()
    """Public keys that may log in as root."""


class Dom0(Model):
    """The hypervisor's and dom0's own share of each machine."""

    memory: Size = 2 << 30
    """Fixed memory of dom0 (Xen's dom0_mem)."""


class Match(Model):
    """Which machine is this node: all that is given must fit."""

    mac: Mac | None = None
    """MAC address of any of its network cards."""
    serial: Annotated[str, Field(min_length=1)] | None = None
    """DMI system serial number (dmidecode -s system-serial-number)."""
    uuid: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")] | None = None
    """DMI system UUID (dmidecode -s system-uuid)."""


class Nics(Model):
    """The two network cards, by MAC address."""

    guest: Mac
    """Card under the bridge that guests are plugged into."""
    cluster: Mac
    """Card of the server network: DRBD, heartbeat, the join."""


class Addresses(Model):
    """The node's own addresses, with prefix length."""

    cluster: IPv4Interface
    """On the cluster link, like 10.10.32.1/24."""
    guest: IPv4Interface
    """On the guest bridge, like 192.168.132.1/24."""


class Bmc(Model):
    """The node's management controller, which can cut its power."""

    type: Literal["ipmi"] = "ipmi"
    """Protocol it speaks: IPMI 2.0 over LAN (ipmitool's lanplus)."""
    address: IPv4Address
    """Its own address, which the peer reaches."""
    port: Port = 623
    """UDP port of RMCP+."""
    user: Annotated[str, Field(min_length=1, max_length=16)]
    """User name, as IPMI 2.0 limits it: at most 16 characters."""
    password: Annotated[str, Field(pattern=r"^secret:[a-z0-9][a-z0-9-]*$")]
    """secret:NAME; the password itself stands in the secrets file under bmc: NAME."""


class DiskRule(Model):
    """Which disk is meant: all that is given must fit, and exactly one disk may; with raid1 exactly two."""

    serial: DiskTexts | None = None
    """Serial number as lsblk shows it; * and ? match as in a shell. With raid1 also a list of two, one for a disk."""
    wwn: DiskText | None = None
    """World wide name as lsblk shows it."""
    model: DiskText | None = None
    """Model as lsblk shows it; * and ? match as in a shell."""
    min_size: Size | None = None
    """Smallest size that fits."""
    max_size: Size | None = None
    """Largest size that fits."""
    wipe: YesOrNo = False
    """Erase what the disk holds: the backing disk once, the system disk at each installation. Only under nodes[].disks,
    by exact serial."""
    raid1: YesOrNo = False
    """Two disks that Linux mirrors (md, RAID1), for a server without a RAID controller."""

    @property
    def serials(self) -> tuple[str, ...]:
        """The patterns of serial, however many there are."""
        if self.serial is None:
            return ()
        return (self.serial,) if isinstance(self.serial, str) else self.serial


class NodeDisks(Model):
    """Disk rules of this node alone, in place of those under storage."""

    system: DiskRule | None = None
    """The disk that this node's dom0 is installed on."""
    backing: DiskRule | None = None
    """The disk below DRBD on this node."""


class Node(Model):
    """One of the two servers."""

    name: HostName
    """Host name, as `uname -n` prints it."""
    match: Match
    """How the machine is recognised."""
    nics: Nics
    """Its two network cards."""
    addresses: Addresses
    """Its address on each of the two networks."""
    memory: Size
    """RAM of the machine."""
    disks: NodeDisks = NodeDisks()
    """Disk rules of its own."""
    bmc: Bmc | None = None
    """Its management controller; both nodes have one, or neither."""


class Network(Model):
    """What both nodes know of the world outside."""

    bridge: BridgeName = "xenbr0"
    """Bridge over the guest card, which carries the node's guest address too."""
    gateway: IPv4Address | None = None
    """Default gateway, on the guest network."""
    dns: tuple[IPv4Address, ...] = ()
    """Name servers."""
    join_port: Port = 7700
    """TCP port of the join, on the cluster link only."""


class Drbd(Model):
    """The one replicated device. What the field's rules fix (protocol C, two primaries, ...) is not here."""

    resource: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "r0"
    """Name of the DRBD resource."""
    port: Port = 7788
    """TCP port of replication, on the cluster link only."""
    max_rate: Size = 300 << 20
    """Upper bound of resync, bytes a second (c-max-rate)."""


class Storage(Model):
    """From the disks to the volume group that the guests live on."""

    system: DiskRule
    """The disk, or mirrored pair of disks, that the dom0 is installed on."""
    backing: DiskRule
    """The disk, or mirrored pair of disks, below DRBD."""
    drbd: Drbd = Drbd()
    """The replicated device between them."""
    volume_group: VolumeGroupName = "data"
    """Name of the volume group on it."""


class Heartbeat(Model):
    """Timing of heartbeat, whole seconds, as in ha.cf."""

    keepalive: Seconds = 2
    """Between two beats."""
    warntime: Seconds = 8
    """Until a late beat is logged."""
    deadtime: Seconds = 20
    """Until a silent node is declared dead."""
    initdead: Seconds = 60
    """The same just after boot, when networks are slow to come up."""
    port: Port = 694
    """UDP port."""


class Fencing(Model):
    """How a lost node is switched off, by its BMC, before anything of it is taken over."""

    delay: Annotated[WholeNumber, Field(ge=18, le=300)] = 20
    """Seconds by which the second node lets the first one shoot: more than noticing (10), asking (1), going off (6)."""
    power_on: bool = True
    """Whether a node that was fenced is switched on again, to come back by itself."""


class Cluster(Model):
    """The whole of cluster.yaml."""

    cluster: ClusterSection
    """Name and domain of the pair."""
    debian: Debian = Debian()
    """What the dom0 is made of."""
    admin: Admin = Admin()
    """Who may log in."""
    dom0: Dom0 = Dom0()
    """Dom0's share of each machine."""
    network: Network = Network()
    """What both nodes know of the network."""
    nodes: Annotated[tuple[Node, ...], Field(json_schema_extra={"minItems": 2, "maxItems": 2})]
    """Exactly two; the first one creates what must be created once."""
    storage: Storage
    """From the disks to the volume group."""
    heartbeat: Heartbeat = Heartbeat()
    """When a silent node counts as dead."""
    fencing: Fencing = Fencing()
    """How a lost node is switched off."""
    guests: tuple[Guest, ...] = ()
    """The guests."""

    def config_hash(self) -> str:
        """sha256 (hex) over the meaning of the config: comments, order of keys and spelling of sizes do not count."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def node(self, name: str) -> Node:
        """The node of that name; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def peer_of(self, name: str) -> Node:
        """The other node."""
        self.node(name)
        return next(node for node in self.nodes if node.name != name)

    def is_first(self, name: str) -> bool:
        """Whether it is the first node, which does what must be done on one side only."""
        return self.nodes[0].name == name

    def disk_rule(self, node: Node, which: Literal["system", "backing"]) -> DiskRule:
        """The rule in force on that node: its own, else the one under storage."""
        own: DiskRule | None = getattr(node.disks, which)
        shared: DiskRule = getattr(self.storage, which)
        return own or shared
