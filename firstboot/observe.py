"""Eyes: run a tool that changes nothing, and hand its output to the parser in firstboot.probe."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from config.door import run
from config.errors import CommandError
from firstboot.blocks import Blocks
from firstboot.errors import ProbeError
from firstboot.probe import metadata as md
from firstboot.probe.disks import (
    LSBLK_COLUMNS,
    BlockDevice,
    Contents,
    Edges,
    Signature,
    edge_ranges,
    parse_edges,
    parse_lsblk,
    parse_wipefs,
)
from firstboot.probe.drbd import (
    UNCONFIGURED,
    DrbdState,
    Generations,
    Metadata,
    parse_dump_md,
    parse_get_gi,
    parse_proc_drbd,
)
from firstboot.probe.heartbeat import HeartbeatState, parse_node_status
from firstboot.probe.lvm import SEGMENTS_OPTIONS, VGS_OPTIONS, Map, VolumeGroup, parse_segments, parse_vgs
from firstboot.probe.machine import Machine
from firstboot.probe.xen import Domain, parse_xl_list

DRBD_DEVICE = Path("/dev/drbd0")
"""The one replicated device; the LVM filter in the image names it too."""


PIECE = 4 << 20
"""Bytes that are read at once of what may be large."""


def nics() -> dict[str, str]:
    """MAC address by interface name, of cards that are hardware (they have a device) and not ports of our making."""
    found = {}
    for interface in sorted(Path("/sys/class/net").iterdir()):
        if (interface / "device").exists():
            found[interface.name] = (interface / "address").read_text().strip().lower()
    return found


def machine() -> Machine:
    """What this machine can be recognised by."""

    def dmi(name: str) -> str:
        try:
            return Path("/sys/class/dmi/id", name).read_text(errors="replace").strip()
        except OSError:
            return ""

    return Machine(nics(), dmi("product_serial"), dmi("product_uuid"))


def block_devices() -> tuple[BlockDevice, ...]:
    """All disks and what lies on them."""
    return parse_lsblk(run(["lsblk", "--json", "--bytes", "--output", LSBLK_COLUMNS]).stdout)


def signatures(device: str | Path) -> tuple[Signature, ...]:
    """All signatures that libblkid knows on a device."""
    return parse_wipefs(run(["wipefs", "--json", "--no-act", device]).stdout)


def contents(disk: BlockDevice) -> Contents:
    """All that stands on a disk. What is inside its partitions does not show on the disk itself, so each is asked."""
    parts = [device.path for device in disk.walk() if device.type == "part"]
    found = [signature for path in (disk.path, *parts) for signature in signatures(path)]
    return Contents(tuple(found), edges(disk.path, disk.size), held(disk.path))


def edges(device: str, size: int) -> Edges:
    """What stands at the two ends of a disk of that size (bytes). Raises OSError where it cannot be read."""
    pieces = {}
    with Path(device).open("rb") as f:
        for at, length in edge_ranges(size):
            f.seek(at)
            pieces[at] = f.read(length)
            if len(pieces[at]) != length:
                raise ProbeError(f"{device} ends at byte {at + len(pieces[at])}, and lsblk says {size} bytes")
    return parse_edges(Path(device).name, pieces)


def held(device: str) -> bool:
    """Whether the kernel uses a disk or a part of it: it lets nobody else have it then (open(2), O_EXCL)."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as e:
        if e.errno == errno.EBUSY:
            return True
        raise
    return False


def exists(device: Path) -> bool:
    """Whether there is a device of that name now."""
    return device.exists()


def metadata(partition: str | Path) -> Metadata | None:
    """The DRBD metadata of a detached partition, or None where there is none.

    After a power cut it is "unclean" (its activity log is not applied yet), and is shown on demand only.
    """
    command = ["drbdmeta", "0", "v08", str(partition), "internal", "dump-md"]
    output = run(command, check=False)
    if output.returncode != 0 and "unclean" in output.stderr:
        output = run([command[0], "--force", *command[1:]], check=False)
    if output.returncode == 0:
        return parse_dump_md(output.stdout)
    if "No valid meta data found" in output.stderr + output.stdout:
        return None
    raise ProbeError(f"drbdmeta dump-md of {partition}: exit code {output.returncode}: {output.stderr.strip()}")


def drbd() -> DrbdState:
    """The replicated device's state; Unconfigured where the module is not loaded."""
    try:
        return parse_proc_drbd(Path("/proc/drbd").read_text())
    except FileNotFoundError:
        return UNCONFIGURED


def backing_partition(resource: str) -> Path:
    """What lies below the replicated device on this node."""
    return Path(run(["drbdadm", "sh-ll-dev", resource]).stdout.strip())


def generations(resource: str) -> Generations:
    """The UUIDs of this side's data."""
    return parse_get_gi(run(["drbdadm", "get-gi", resource]).stdout)


def unreplicated(partition: Path) -> tuple[int, Blocks, Blocks]:
    """Of a partition that DRBD may be using: how many blocks it replicates; which are marked as written without the
    peer; and which may be, because their mark is not on the disk yet.
    """
    with direct(partition) as (fd, size):
        start = md.superblock_start(size)
        layout = md.parse_superblock(read_direct(fd, start, md.SUPERBLOCK), start)
        # The log first: what leaves it in between is marked in the bitmap.
        hot = md.parse_log(read_direct(fd, layout.log_start, layout.log_size), layout)
        marked = md.parse_bitmap(pieces(fd, layout.bitmap_start, layout.bitmap_start + layout.bitmap_size), layout)
    return layout.blocks, marked, hot


@contextmanager
def direct(device: Path) -> Iterator[tuple[int, int]]:
    """A device opened for reading past the page cache, which does not know what DRBD writes; and its size (bytes)."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        yield fd, os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def read_direct(fd: int, start: int, length: int) -> bytes:
    """That many bytes, both numbers being multiples of 4096. Raises ProbeError where the device ends before."""
    with mmap.mmap(-1, length) as buffer:
        done = os.preadv(fd, [buffer], start)
        if done != length:
            raise ProbeError(f"only {done} of {length} bytes can be read at byte {start}")
        return buffer[:]


def pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """What lies between two byte offsets, without holding all of it in memory; see read_direct."""
    for at in range(start, end, PIECE):
        yield read_direct(fd, at, min(PIECE, end - at))


def volume_map(partition: Path, volume_group: str) -> Map:
    """Where this side's volumes lie, read below DRBD: above it nobody reads while I/O is frozen, or on a Secondary."""
    only = f'devices {{ global_filter = [ "a|^{partition.resolve()}$|", "r|.*|" ] use_devicesfile = 0 hints = "none" }}'
    report = ["--segments", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", SEGMENTS_OPTIONS]
    return parse_segments(run(["pvs", "--readonly", "--config", only, *report]).stdout, volume_group)


def drbd_version() -> str:
    """Of the loaded module, like 8.4.11."""
    return Path("/sys/module/drbd/version").read_text().strip()


def volume_groups() -> Mapping[str, VolumeGroup]:
    """Volume groups on the replicated device, by name."""
    output = run(["vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", VGS_OPTIONS])
    return {group.name: group for group in parse_vgs(output.stdout)}


def heartbeat(peer: str) -> HeartbeatState:
    """How heartbeat sees itself and the peer."""
    status = run(["cl_status", "hbstatus"], check=False).stdout
    return parse_node_status(status, run(["cl_status", "nodestatus", peer], check=False).stdout)


def domains() -> tuple[Domain, ...] | None:
    """Running domains, or None where Xen does not answer: that is not the same as none."""
    try:
        return parse_xl_list(run(["xl", "list", "-l"], timeout=20).stdout)
    except CommandError:
        return None


def package_version() -> str:
    """Of the installed xenpair-firstboot."""
    return run(["dpkg-query", "-W", "-f", "${Version}", "xenpair-firstboot"]).stdout.strip()
