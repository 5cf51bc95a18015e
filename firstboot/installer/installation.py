"""An installation, from its source to a disk that boots; in an order in which nothing half-done boots."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from config.door import run
from config.model import DiskRule
from config.payload import EDGE, INDEX, Index, parse_index
from firstboot import mirrors, observe
from firstboot.errors import IdentityError, RefusedError
from firstboot.herald import Herald
from firstboot.installer import floor
from firstboot.installer.arguments import FromMedium, FromServer
from firstboot.installer.devices import looped
from firstboot.installer.medium import Medium, seed_image
from firstboot.installer.mirror import ROOM, mirrored_root, record, release
from firstboot.installer.proof import SIGNERS, prove
from firstboot.installer.server import Server
from firstboot.installer.source import Assignment, Source
from firstboot.installer.stream import pour
from firstboot.installer.table import Table, fitted
from firstboot.installer.target import Mirrored, Target, opened
from firstboot.installer.teller import Teller
from firstboot.mounts import QUIET, mounted
from firstboot.pinned import PinnedServer
from firstboot.places import Places
from firstboot.plan import disk_choice, system_disk
from firstboot.plan.backing import may_wipe
from firstboot.plan.sighting import as_yaml
from firstboot.probe.disks import EDGE as LOOKED_AT
from firstboot.probe.disks import BlockDevice
from firstboot.probe.marker import BLOCK, Marker, parse_marker

SCRATCH = Path("/run/xenpair")
"""In memory; nothing of it is left after the reboot."""
DISK_PATIENCE = 30.0
"""Seconds that a disk may need to show up, after udev has dealt with all that is there."""
BETWEEN_LINES = 2.0
"""Seconds between two lines of progress."""


def source_of(
    origin: FromMedium | FromServer, medium: Path | None, stack: contextlib.ExitStack, teller: Teller
) -> Source:
    """The source that an origin means: medium is its device, if it is one. It lasts as long as the stack."""
    if isinstance(origin, FromServer):
        if teller.herald is None:
            teller.machine, teller.herald = origin.card, Herald(PinnedServer(origin.url, origin.pin))
        SCRATCH.mkdir(parents=True, exist_ok=True)
        return Server(origin, SCRATCH, teller.waiting, teller.heard)
    files = stack.enter_context(mounted(medium or Path(), SCRATCH / "medium", f"ro,{QUIET}"))
    device = stack.enter_context(looped(seed_image(files), read_only=True))
    return Medium(files, stack.enter_context(mounted(device, SCRATCH / "seed", f"ro,{QUIET}")))


def install(source: Source, teller: Teller, *, bench: bool, signers: Path = SIGNERS) -> float:
    """Put the image and what makes it a node of its cluster onto the system disk.

    Returns the seconds that measuring the floor took. Raises XenpairError or OSError; then the disk does not boot.
    """
    with teller.step("identity"):
        observe.settle(teller.waiting)
        assignment = _identity(source, teller)
    with teller.step("disk"):
        rule = assignment.cluster.disk_rule(assignment.node, "system")
        decisions = [_admission(disk, rule, assignment) for disk in _disks(rule, teller)]
        disks = [decision.disk for decision in decisions]
    with teller.step("image"):
        index = _index(source, signers)
        for disk in disks:
            system_disk.large_enough(disk, index.disk_size + (ROOM if rule.raid1 else 0))
        image = source.image(index.packed_size)
    marker = Marker(assignment.cluster.cluster.name, assignment.node.name, index.key)
    for decision in decisions:
        _erase(decision, teller)
    with contextlib.ExitStack() as stack:
        targets = [stack.enter_context(opened(Path(disk.path))) for disk in disks]
        for target in targets:
            claim(target, marker)
        measuring = (
            floor.measure(index, source.image(index.packed_size), Path(disks[0].path), targets[0], teller)
            if bench
            else 0
        )
        with teller.step("write"):
            every = targets[0] if len(targets) == 1 else Mirrored(targets)
            withheld = pour(index, image, every, _Progress(index, teller))
            for target in targets:
                clear_end(target, index)
        with teller.step("hand-over"):
            tables = [
                table_of(target, index, withheld, half=disk.serial if rule.raid1 else "")
                for target, disk in zip(targets, disks, strict=True)
            ]
            _hand_over(source, disks, tables, index, teller)
            complete(targets, tables)
    return measuring


def _hand_over(
    source: Source, disks: Sequence[BlockDevice], tables: Sequence[Table], index: Index, teller: Teller
) -> None:
    """What makes it a node of its cluster, into the root file system of the disk, or of the mirror of both."""
    made = record(disks, tables) if len(disks) == 2 else None
    with (
        mirrored_root(made, disks, tables, index.root_start)
        if made
        else looped(Path(disks[0].path), offset=index.root_start) as device,
        mounted(device, SCRATCH / "root", "rw") as root,
    ):
        source.hand_over(Places(root), teller.waiting)
        if made:
            mirrors.write(Places(root).system_mirror, made)


def _identity(source: Source, teller: Teller) -> Assignment:
    machine = observe.machine()
    try:
        assignment = source.identify(machine)
    except (IdentityError, RefusedError):
        teller.note(f"seen, as cluster.yaml has it:\n{as_yaml(machine, observe.block_devices())}")
        raise
    teller.note(f"this machine is {assignment.node.name} of the cluster {assignment.cluster.cluster.name}")
    return assignment


def _disks(rule: DiskRule, teller: Teller) -> tuple[BlockDevice, ...]:
    deadline = time.monotonic() + DISK_PATIENCE
    while (
        len(disk_choice.matching(rule, devices := observe.block_devices())) < disk_choice.wanted(rule)
        and time.monotonic() < deadline
    ):
        teller.waiting(
            f"the system rule fits too few disks yet; there: {disk_choice.describe(disk_choice.disks(devices))}"
        )
        time.sleep(1)
    return system_disk.system_disks(rule, devices)


def _admission(disk: BlockDevice, rule: DiskRule, assignment: Assignment) -> system_disk.Decision:
    if may_wipe(rule, disk):
        release(disk)
    with Path(disk.path).open("rb") as f:
        found = parse_marker(f.read(BLOCK))
    mine = Marker(assignment.cluster.cluster.name, assignment.node.name, "")
    return system_disk.admission(disk, observe.contents(disk), found, mine, wipe=may_wipe(rule, disk))


def _index(source: Source, signers: Path) -> Index:
    content = source.index()
    prove(content, source.signature(), SCRATCH, signers=signers)
    return parse_index(content, INDEX)


def _erase(decision: system_disk.Decision, teller: Teller) -> None:
    """What stands inside of partitions, for they are out of sight once their table is gone."""
    if isinstance(decision, system_disk.Install) and decision.found:
        disk = decision.disk
        teller.note(f"erasing {disk.path} (serial {disk.serial}), as the config says: {', '.join(decision.found)}")
        for part in reversed([device.path for device in disk.walk() if device.type == "part"]):
            run(["wipefs", "--all", part])


def claim(target: Target, marker: Marker) -> None:
    """From here to complete() the disk does not boot, and says whose installation that is."""
    target.write(0, marker.to_block())
    target.flush()
    target.zero(target.size - EDGE, EDGE)
    target.zero(BLOCK, EDGE - BLOCK)
    target.flush()


def clear_end(target: Target, index: Index) -> None:
    """Zero what is stale at the end of the disk, where metadata of md and LVM and the backup table would stand."""
    if target.size > index.disk_size:
        # The image's own end, which is withheld, is in the middle of a larger disk, and nothing is to be there.
        target.zero(index.disk_size - EDGE, min(EDGE, target.size - index.disk_size))
    begin = max(index.disk_size - EDGE, target.size - LOOKED_AT)
    target.zero(begin, target.size - begin)
    target.flush()


def table_of(target: Target, index: Index, withheld: dict[int, bytes], *, half: str = "") -> Table:
    """What the image has for the beginning of a disk, made to fit this one; half: its serial, in a mirror."""
    head = bytearray(EDGE)
    for at, content in withheld.items():
        if at < EDGE:
            head[at : at + len(content)] = content
    return fitted(bytes(head), index.root_start, target.size, SCRATCH, half=half)


def complete(targets: Sequence[Target], tables: Sequence[Table]) -> None:
    """Make each disk boot: the end first, then the beginning, and the first block of each last of all."""
    for target, table in zip(targets, tables, strict=True):
        target.write(target.size - EDGE, table.last)
        target.write(BLOCK, table.first[BLOCK:])
        target.flush()
    for target, table in zip(targets, tables, strict=True):
        target.write(0, table.first[:BLOCK])
        target.flush()


class _Progress:
    """A line every other second: how much of what is to be written, how fast, how long still."""

    def __init__(self, index: Index, teller: Teller) -> None:
        self._whole = index.written_size
        self._teller = teller
        self._begun = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < BETWEEN_LINES:
            return
        self._last = now
        percent = done * 100 // self._whole
        rate = done / (now - self._begun)
        self._teller.running(
            f"{percent}% {done >> 20}M of {self._whole >> 20}M, {rate / (1 << 20):.0f}M/s, "
            f"{(self._whole - done) / rate:.0f} s left",
            percent,
        )
