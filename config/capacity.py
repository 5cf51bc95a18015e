"""What a node's memory and disks have room for, in bytes. Pure arithmetic; config.checks turns it into words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # A node's supervisor reckons with this too, and must not pay for pydantic.
    from config.model import Cluster, Node

MIB = 1 << 20
SECTOR = 512

XEN_BASE = 128 * MIB
"""Bytes of each machine that are neither dom0's nor a guest's: Xen's own code and heap, and what the firmware keeps."""
PARTITIONING = 2 * MIB
"""Bytes of the backing disk outside the partition: alignment to 1 MiB in front, the second GPT header behind."""
LVM_METADATA = 1 * MIB
"""Bytes in front of the first extent: lvm.conf(5), default_data_alignment = 1 MiB, holds the metadata area too."""
EXTENT = 4 * MIB
"""Bytes; vgcreate(8), default of --physicalextentsize. Logical volumes are rounded up to it."""


def xen_share(node: Node) -> int:
    """Memory that Xen takes on a node.

    The base, and 1/64 of the RAM: Xen keeps 32 bytes of frame table (struct page_info) and 8 bytes of
    machine-to-physical table for each page of 4 KiB, which is 1 %; the rest is slack.
    """
    return XEN_BASE + node.memory // 64


class Sized(Protocol):
    """A guest, in the config or as a node keeps it: memory in bytes."""

    @property
    def memory(self) -> int: ...

    @property
    def vcpus(self) -> int: ...


def guest_share(guest: Sized) -> int:
    """Memory that Xen sets aside for a guest: its own, 1 MiB for each vCPU, and 8 KiB for each MiB of its RAM.

    The additions are xl's paging pool (libxl_get_required_shadow_memory in tools/libs/light/libxl_utils.c).
    """
    return guest.memory + guest.vcpus * MIB + guest.memory // 128


def free_for_guests(cluster: Cluster, node: Node) -> int:
    """Memory that a node has for guests while none runs; 0 where Xen and dom0 take it all."""
    return max(0, node.memory - xen_share(node) - cluster.dom0.memory)


def memory_need(cluster: Cluster, node: Node) -> int:
    """Memory that a node needs to hold every guest of the pair at once, which it does while its peer is down."""
    return xen_share(node) + cluster.dom0.memory + sum(map(guest_share, cluster.guests))


def drbd_metadata(size: int) -> int:
    """Bytes of DRBD's internal metadata on a device of that many bytes.

    DRBD 8.4 user's guide, section "Estimating meta data size": ceil(sectors / 2^18) * 8 + 72 sectors.
    """
    sectors = -(-size // SECTOR)
    return (-(-sectors // (1 << 18)) * 8 + 72) * SECTOR


def volume_group_size(disk: int) -> int:
    """Bytes of whole extents in the volume group over a backing disk of that many bytes; 0 where nothing is left."""
    partition = disk - PARTITIONING
    return max(0, partition - drbd_metadata(partition) - LVM_METADATA) // EXTENT * EXTENT


def volume_size(size: int) -> int:
    """Bytes that a logical volume of that size takes: whole extents."""
    return -(-size // EXTENT) * EXTENT


def about(size: int) -> str:
    """Bytes for people, rounded up: whole M, and G with one decimal from 10G up."""
    return f"{-(-size * 10 // (1 << 30)) / 10:.1f}G" if size >= 10 << 30 else f"{-(-size // MIB)}M"
