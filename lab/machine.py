"""What one virtual server is made of, and QEMU's command line for it. Pure: nothing is started or written here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.model import Cluster, DiskRule, Node
from config.sizes import format_size
from lab import media
from lab.errors import LabError
from lab.media import Firmware, Via
from lab.network import netdev, node_cables

Accelerator = Literal["kvm", "tcg"]
Purpose = Literal["system", "backing"]
Half = Literal["", "-b"]
"""What the name of a disk's file ends with: the second one of a mirrored pair has a file of its own."""

SYSTEM_SIZE = 4 << 30
EMPTY_SYSTEM_SIZE = 6 << 30
"""Of a system disk that is installed: larger than the image, which grows on it."""
BACKING_SIZE = 4 << 30
SERIAL_LIMIT = 20
"""Bytes of a virtio-blk serial: VIRTIO_BLK_ID_BYTES, virtio 1.2, 5.2.6."""
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SEED = "seed.img"

ACCELERATION: dict[Accelerator, tuple[str, ...]] = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    # Under TCG a PV dom0 dies at its first page fault when the emulated CPU offers SMAP, SMEP or 5-level paging.
    # tb-size is in MiB: hypervisor, kernel and user space of one node overflow the default code cache.
    "tcg": (
        "-accel",
        "tcg,thread=multi,tb-size=1024",
        "-cpu",
        "max,-smap,-smep,-la57,-xsave,-avx,-avx2,-f16c,-fma,-pku,-mpx",
    ),
}


@dataclass(frozen=True)
class Disk:
    """A disk to be made for a node: what its rule in the config will find."""

    purpose: Purpose
    serial: str
    size: int
    """Bytes."""
    half: Half = ""


def disks(cluster: Cluster, node: Node, *, empty: bool = False) -> tuple[Disk, ...]:
    """All disks of a node: system, backing, and of each the second one where its rule says raid1.

    empty: the system is to be installed.
    """
    purposes: tuple[Purpose, ...] = ("system", "backing")
    pairs = [purpose for purpose in purposes if cluster.disk_rule(node, purpose).raid1]
    alone = [disk(cluster, node, purpose, empty=empty) for purpose in purposes]
    return (*alone, *(disk(cluster, node, purpose, "-b", empty=empty) for purpose in pairs))


def disk(cluster: Cluster, node: Node, purpose: Purpose, half: Half = "", *, empty: bool = False) -> Disk:
    """The disk that the config's rule for that purpose matches on that node; half: which one of two.

    empty: a system disk that is to be installed.

    Raises LabError for a rule that no virtio disk can satisfy.
    """
    rule = cluster.disk_rule(node, purpose)
    where = f"the {purpose} disk's rule of {node.name}"
    if rule.wwn is not None or rule.model is not None:
        raise LabError(
            f"{where} asks for a {'wwn' if rule.wwn is not None else 'model'}, which the lab's virtio disks have not",
            hint="for the lab, match the disk by serial or by size",
        )
    end = (half or "-a") if rule.raid1 else ""
    serial = f"{purpose}-{node.name}"[: SERIAL_LIMIT - len(end)] + end
    if rule.serials:
        pattern = rule.serials[-1 if half else 0]
        # One pattern for two disks means both; a pattern for each is one for this half.
        serial = pattern.replace("*", node.name + (end if len(rule.serials) == 1 else "")).replace("?", "0")
    if len(serial.encode()) > SERIAL_LIMIT:
        raise LabError(
            f"{where} leads to the serial {serial!r}, which is longer than a virtio disk's {SERIAL_LIMIT} bytes",
            hint="for the lab, use a shorter serial or node name",
        )
    return Disk(purpose, serial, _size(rule, purpose, empty=empty), half)


def _size(rule: DiskRule, purpose: Purpose, *, empty: bool) -> int:
    size = {"system": EMPTY_SYSTEM_SIZE if empty else SYSTEM_SIZE, "backing": BACKING_SIZE}[purpose]
    size = max(size, rule.min_size or 0) if purpose == "system" else rule.min_size or size
    return min(size, rule.max_size or size)


def check(cluster: Cluster) -> None:
    """Whether the lab can be what the config describes. Raises LabError."""
    for node in cluster.nodes:
        found: dict[str, Disk] = {}
        for one in disks(cluster, node):
            if (other := found.setdefault(one.serial, one)) is not one:
                kinds = " and ".join(dict.fromkeys((other.purpose, one.purpose)))
                raise LabError(f"{node.name}'s {kinds} disks would have the same serial, {one.serial!r}")
        if node.match.mac not in (None, node.nics.guest, node.nics.cluster):
            raise LabError(
                f"{node.name} is matched by the MAC {node.match.mac}, which neither of its two cards has",
                hint="the lab's servers have just these two: match by nics.guest or nics.cluster, by serial or by uuid",
            )


def check_memory(cluster: Cluster, available: int) -> None:
    """Whether that many bytes of available memory hold both servers. Raises LabError."""
    wanted = sum(node.memory for node in cluster.nodes)
    if wanted > available:
        raise LabError(
            f"the two servers want {format_size(wanted)} of memory, and this host has {available >> 20}M available",
            hint="give the lab a copy of the config with a smaller nodes[].memory",
        )


def argv(
    cluster: Cluster,
    node: Node,
    *,
    firmware: Firmware,
    accelerator: Accelerator,
    seed: bool,
    via: Via | None = None,
    ends_at_reset: bool = False,
    snapshot: str | None = None,
    fails_after: int | None = None,
) -> list[str]:
    """QEMU's command line for one node. File names are relative to the lab's directory, where QEMU is to be started.

    via: what it is installed from, which stays plugged in. ends_at_reset: QEMU ends where the
    machine would reset itself. snapshot: start from it, paused, instead of booting.
    fails_after: writes after which the backing disk fails.
    """
    name = node.name
    guest, server = node_cables(name)
    return [
        "qemu-system-x86_64",
        *("-name", name),
        *ACCELERATION[accelerator],
        *("-machine", "pc", "-smp", "1", "-m", f"{node.memory >> 20}M"),
        *("-nodefaults", "-display", "none", "-rtc", "base=utc"),
        *_identity(node),
        *_firmware(name, firmware),
        *("-chardev", f"socket,id=console,path={name}.console,server=on,wait=off,logfile={name}.log,logappend=on"),
        *("-serial", "chardev:console"),
        *("-qmp", f"unix:{qmp(name)},server=on,wait=off"),
        *_disk(disk(cluster, node, "system"), disk_file(name, "system"), order=media.boot_order(via, firmware)[0]),
        *_disk(disk(cluster, node, "backing"), disk_file(name, "backing"), fails_after=fails_after),
        *(word for one in disks(cluster, node)[2:] for word in _second(name, one, media.boot_order(via, firmware)[1])),
        *(_seed() if seed else ()),
        *(media.argv(via, firmware) if via else ()),
        *("-netdev", netdev(guest, "net-guest")),
        *("-device", f"virtio-net-pci,id=guest,netdev=net-guest,mac={node.nics.guest},{media.card(via, firmware)}"),
        *("-netdev", netdev(server, "net-cluster")),
        *("-device", f"virtio-net-pci,id=cluster,netdev=net-cluster,mac={node.nics.cluster},romfile="),
        # Host keys are made at first boot: without this, first boot waits for entropy.
        *("-device", "virtio-rng-pci"),
        *(("-no-reboot",) if ends_at_reset else ()),
        *(("-S", "-loadvm", snapshot) if snapshot else ()),
    ]


def qmp(name: str) -> str:
    """File name of a node's QMP socket."""
    return f"{name}.qmp"


def disk_file(name: str, purpose: Purpose | Literal["vars"], half: Half = "") -> str:
    """File name of a node's disk, or of its UEFI variables."""
    return f"{name}-{purpose}{half}.qcow2"


def _identity(node: Node) -> list[str]:
    fields = {"serial": node.match.serial, "uuid": node.match.uuid}
    given = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in fields.items() if value is not None)
    return ["-smbios", f"type=1,{given}"] if given else []


def _firmware(name: str, firmware: Firmware) -> list[str]:
    if firmware == "bios":
        return []
    return [
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"),
        # qcow2, since a snapshot of the machine cannot hold a writable raw image.
        *("-drive", f"if=pflash,unit=1,format=qcow2,file={disk_file(name, 'vars')}"),
    ]


def _disk(wanted: Disk, file: str, *, order: int | None = None, fails_after: int | None = None) -> list[str]:
    # cache=unsafe leaves out fdatasync on the host and nothing else: at a guest's flush QEMU still writes its cached
    # qcow2 tables to the host's page cache, in order, and that outlives a SIGKILL of QEMU. So a power cut in the lab
    # loses what a real one loses, the unflushed; only a crash of the host can tear a lab's disks.
    source = f"format=qcow2,file={file}" if fails_after is None else _failing(file, fails_after)
    name = f"{wanted.purpose}{wanted.half}"
    drive = f"if=none,id={name},{source},cache=unsafe,discard=unmap"
    serial = wanted.serial.replace(",", ",,")
    device = f"virtio-blk-pci,id=disk-{name},drive={name},serial={serial}"
    return ["-drive", drive, "-device", device + ("" if order is None else f",bootindex={order}")]


def _second(name: str, wanted: Disk, order: int) -> list[str]:
    """The second disk of a mirror; firmware tries that of the system too."""
    file = disk_file(name, wanted.purpose, wanted.half)
    return _disk(wanted, file, order=order if wanted.purpose == "system" else None)


def _failing(file: str, writes: int) -> str:
    """The disk on QEMU's blkdebug (docs/devel/blkdebug.rst): it counts qcow2's writes by its state, then answers EIO.

    Below qcow2, since QEMU 7.2 crashes when it loads a snapshot through a blkdebug that is above.
    """
    counting = [
        f"file.set-state.{n}.event=write_aio,file.set-state.{n}.state={n + 1},file.set-state.{n}.new_state={n + 2}"
        for n in range(writes)
    ]
    failing = f"file.inject-error.0.event=write_aio,file.inject-error.0.state={writes + 1},file.inject-error.0.errno=5"
    return ",".join(
        ["format=qcow2,file.driver=blkdebug", f"file.image.driver=file,file.image.filename={file}", *counting, failing]
    )


def _seed() -> list[str]:
    drive = f"if=none,id=seed,format=raw,readonly=on,file={SEED}"
    return ["-drive", drive, "-device", "virtio-blk-pci,id=disk-seed,drive=seed,serial=seed"]
