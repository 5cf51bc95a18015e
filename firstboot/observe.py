"""Eyes: run a tool that changes nothing, and hand its output to the parser in firstboot.probe."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from config.door import Output, run
from config.machine import Machine
from firstboot.blocks import SECTOR
from firstboot.errors import NodeError, ProbeError
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
from firstboot.probe.lvm import VGS_OPTIONS, VolumeGroup, parse_vgs
from firstboot.probe.mirror import ATTRIBUTES, Array, parse_array

SETTLE_LIMIT = 600.0
"""Seconds; systemd gives a single device 180 of them (systemd-udevd.service(8), event_timeout)."""

DRBD_DEVICE = Path("/dev/drbd0")
"""The one replicated device; the LVM filter in the image names it too."""


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


def settle(waiting: Callable[[str], None] = lambda _: None) -> None:
    """Until udev has dealt with every device that the kernel has found so far: a busy server needs minutes.

    waiting is told while that lasts. Raises NodeError after SETTLE_LIMIT seconds.
    """
    deadline = time.monotonic() + SETTLE_LIMIT
    while run(["udevadm", "settle", "--timeout=30"], check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise NodeError(
                f"udev has not dealt with all devices within {SETTLE_LIMIT:.0f} s",
                hint="which one keeps it busy, `journalctl -u systemd-udevd` says; then `xenpair resume`",
            )
        waiting("udev is still busy with the devices that it has found")
        time.sleep(1)


def exists(device: Path) -> bool:
    """Whether there is a device of that name now."""
    return device.exists()


def kernel_name(device: Path) -> str | None:
    """What the kernel calls a device by that stable name, like vdb1; None where there is none."""
    return device.resolve().name if device.exists() else None


def holders(name: str) -> tuple[str, ...]:
    """What lies right upon a device, be it started or not: names like md127, by the kernel's name of the device."""
    try:
        return tuple(sorted(path.name for path in Path("/sys/class/block", name, "holders").iterdir()))
    except FileNotFoundError:
        return ()


def array(name: str) -> Array:
    """What the kernel says of the md array of that name, like md127."""
    directory = Path("/sys/class/block", name, "md")
    files = [directory / attribute for attribute in ATTRIBUTES] + sorted(directory.glob("dev-*/state"))
    found = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            found[str(file.relative_to(directory))] = file.read_text()
    return parse_array(found)


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


def replicated_size() -> int:
    """Bytes of the replicated device, also where it is not Primary; 0 where it is not up."""
    try:
        return int(Path("/sys/class/block", DRBD_DEVICE.name, "size").read_text()) * SECTOR
    except FileNotFoundError:
        return 0


def drbd() -> DrbdState:
    """The replicated device's state; Unconfigured where the module is not loaded."""
    try:
        return parse_proc_drbd(Path("/proc/drbd").read_text())
    except FileNotFoundError:
        return UNCONFIGURED


def generations(resource: str) -> Generations:
    """The UUIDs of this side's data."""
    return parse_get_gi(run(["drbdadm", "get-gi", resource]).stdout)


def drbd_version() -> str:
    """Of the loaded module, like 8.4.11."""
    return Path("/sys/module/drbd/version").read_text().strip()


def look_at(argv: Sequence[str], glance: float | None = None) -> Output:
    """Run a program that reads what is on the replicated device, and that waits with it where that is frozen.

    glance: seconds after which it is left waiting. Raises CommandError.
    """
    return run(argv) if glance is None else run(argv, timeout=glance, forsake=True)


def volume_groups(glance: float | None = None) -> Mapping[str, VolumeGroup]:
    """Volume groups on the replicated device, by name; glance: see look_at."""
    output = look_at(["vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", VGS_OPTIONS], glance)
    return {group.name: group for group in parse_vgs(output.stdout)}


def heartbeat(peer: str) -> HeartbeatState:
    """How heartbeat sees itself and the peer."""
    status = run(["cl_status", "hbstatus"], check=False).stdout
    return parse_node_status(status, run(["cl_status", "nodestatus", peer], check=False).stdout)


def package_version() -> str:
    """Of the installed xenpair-firstboot."""
    return run(["dpkg-query", "-W", "-f", "${Version}", "xenpair-firstboot"]).stdout.strip()
