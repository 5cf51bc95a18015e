"""The model of a guest: what cluster.yaml may say of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from config.findings import Location
from config.values import BridgeName, FileName, GuestAddress, GuestName, HostName, Line, Mac, Model, Size, WholeNumber

if TYPE_CHECKING:
    from config.model import Cluster


class GuestNetwork(Model):
    """The guest's one network card, and what its system is told of the network."""

    bridge: BridgeName | None = None
    """Bridge on both nodes that it is plugged into; network.bridge if not given. Another one you set up yourself."""
    mac: Mac | None = None
    """MAC address of its card; derived from the names of cluster and guest if not given, and so always the same."""
    address: GuestAddress = "dhcp"
    """dhcp, or its IPv4 address with prefix length: written into a system that is made from a tarball or a suite."""
    gateway: IPv4Address | None = None
    """Its default gateway, only with an address of its own."""


class GuestBoot(Model):
    """Which kernel it runs."""

    by: Literal["host", "guest"] = "host"
    """host: a kernel that lies on the nodes; guest: the one in the guest's own disk image, by the GRUB there."""
    kernel: FileName | None = None
    """Kernel on the nodes; dom0's own if not given."""
    ramdisk: FileName | None = None
    """Its initial RAM disk; with dom0's kernel dom0's own if not given, with another kernel none."""
    arguments: Line = ""
    """Further words on the kernel's command line."""


class GuestInstall(Model):
    """What is put on its disk, once, before its first start: a tarball, an image, or a suite."""

    tarball: FileName | None = None
    """Root file system as a tar file, unpacked onto a new file system that fills the disk."""
    image: FileName | None = None
    """Disk image, raw or qcow2, copied onto the disk; the disk is at least as large."""
    suite: Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")] | None = None
    """Debian suite that xen-tools installs on the disk, from a mirror; debian.backports brings xen-tools."""
    mirror: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """URL of the mirror for suite; the one of the node's own apt if not given. Only with suite."""


class Guest(Model):
    """A Xen guest on a logical volume of the volume group."""

    name: GuestName
    """Name of the guest, and of its logical volume."""
    memory: Size
    """Its RAM."""
    vcpus: Annotated[WholeNumber, Field(ge=1, le=128)] = 1
    """Virtual CPUs."""
    disk: Size
    """Size of its logical volume."""
    home: HostName
    """Node that it runs on while both are up."""
    type: Literal["auto", "pvh", "pv"] = "auto"
    """pvh needs hardware virtualisation; pv does not, but cannot be migrated live; auto: pvh where both nodes can."""
    network: GuestNetwork = GuestNetwork()
    """Its network card and address."""
    boot: GuestBoot = GuestBoot()
    """How it boots."""
    install: GuestInstall | None = None
    """What is put on its disk; an empty disk if not given."""
    priority: Annotated[WholeNumber, Field(ge=0, le=99)] = 50
    """0 to 99; a higher one is started first, and gets its memory first where there is not enough for all."""
    restart: Literal["always", "on-crash", "never"] = "always"
    """Whether it is started again after it has ended by itself. A reboot is no end."""
    options: dict[str, Line] = {}  # noqa: RUF012 -- pydantic copies a default
    """Further settings of xl.cfg(5), key: text; not those that follow from the keys above."""

    def named_files(self) -> Iterator[tuple[Location, str]]:
        """Each FILE that it names, by plain name or by absolute path, with its place below the guest."""
        install = self.install or GuestInstall()
        named = (
            (("boot", "kernel"), self.boot.kernel),
            (("boot", "ramdisk"), self.boot.ramdisk),
            (("install", "tarball"), install.tarball),
            (("install", "image"), install.image),
        )
        yield from ((where, file) for where, file in named if file is not None)


def bridge(cluster: Cluster, guest: Guest) -> str:
    """The bridge that a guest is plugged into: its own, else the cluster's."""
    return guest.network.bridge or cluster.network.bridge


def mac(cluster: Cluster, guest: Guest) -> str:
    """The MAC address of a guest's card: the one given, else one from the names of cluster and guest, always the same.

    00:16:3e is Xen's own prefix; the next bit is clear, as in those that libxl draws (tools/libs/light/libxl_nic.c).
    """
    if guest.network.mac is not None:
        return guest.network.mac
    first, second, third = hashlib.sha256(f"{cluster.cluster.name} {guest.name}".encode()).digest()[:3]
    return f"00:16:3e:{first & 0x7F:02x}:{second:02x}:{third:02x}"


def is_carried(file: str) -> bool:
    """Whether a FILE is brought to the nodes by the seed medium: a plain name is, an absolute path is there already."""
    return not file.startswith("/")


def files(cluster: Cluster) -> tuple[str, ...]:
    """The plain file names in a config, sorted: they lie beside it, and the seed medium carries them to the nodes."""
    named = (file for guest in cluster.guests for _, file in guest.named_files())
    return tuple(sorted({file for file in named if is_carried(file)}))
