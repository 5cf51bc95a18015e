"""The files behind a lab's disks: one image shared by both nodes, and what each node writes over it."""

from __future__ import annotations

import errno
import filecmp
import os
from pathlib import Path

from config.door import run
from config.model import Cluster, Node
from config.sizes import format_size
from images import preflight
from images.imagefile import info
from lab import machine
from lab.errors import LabError
from lab.machine import OVMF_CODE, OVMF_VARS, disk_file
from lab.media import Firmware

BASE = "base.qcow2"
NEEDS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "ssh-keygen": "openssh-client"}
"""What the lab takes of this host (see images.preflight)."""
UEFI_NEEDS = {str(OVMF_CODE): "ovmf", str(OVMF_VARS): "ovmf"}
"""And of one that boots by UEFI."""


def check_tools(firmware: Firmware) -> None:
    """Whether everything that the lab needs of this host is there. Raises LabError."""
    if lacking := preflight.missing(NEEDS | (UEFI_NEEDS if firmware == "uefi" else {})):
        raise LabError(f"this host lacks {', '.join(lacking)}", hint=preflight.install_command(lacking.values()))


def check(image: Path) -> None:
    """Whether that is an image that the lab can boot. Raises LabError."""
    if not image.is_file():
        raise LabError(f"there is no image {image}", hint="`invoke build-image` builds it")
    if (found := info(image).format) != "qcow2":
        raise LabError(f"{image} is {found}, and the lab boots qcow2", hint="`invoke build-image --formats qcow2`")


def adopt(image: Path, directory: Path) -> None:
    """Keep the image in the lab."""
    keep(image, directory / BASE)


def keep(file: Path, target: Path) -> None:
    """Keep a file as it is now: a later build replaces it under its name, not under ours."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(file.resolve(), part)
    except OSError as e:
        if e.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        run(["cp", "--reflink=auto", "--sparse=always", file, part], timeout=None)
    part.rename(target)


def same(image: Path, directory: Path) -> bool:
    """Whether the lab's image is this one, by content."""
    base = directory / BASE
    return image.is_file() and (image.samefile(base) or filecmp.cmp(image, base, shallow=False))


def make(directory: Path, cluster: Cluster, node: Node, firmware: Firmware, *, empty: bool = False) -> None:
    """Make what is missing of a node's disks: an overlay over the image (or blank), a blank one, UEFI variables."""
    system, *others = machine.disks(cluster, node, empty=empty)
    over = [] if empty else _over(directory, node, system.size)
    _create(directory, disk_file(node.name, "system"), ["create", "-f", "qcow2", *over], str(system.size))
    for blank in others:
        file = disk_file(node.name, blank.purpose, blank.half)
        _create(directory, file, ["create", "-f", "qcow2"], str(blank.size))
    if firmware == "uefi":
        copy = ["convert", "-f", "raw", "-O", "qcow2", str(OVMF_VARS)]
        _create(directory, disk_file(node.name, "vars"), copy)


def _over(directory: Path, node: Node, size: int) -> list[str]:
    if (image := info(directory / BASE)).virtual_size > size:
        raise LabError(
            f"the image has {format_size(image.virtual_size)}, and {node.name}'s system disk would have "
            f"{format_size(size)}",
            hint="raise max_size of its disk rule",
        )
    return ["-b", BASE, "-F", "qcow2"]


def discard(directory: Path, name: str) -> None:
    """Delete a node's disks and UEFI variables; make() makes them anew, blank."""
    files = [disk_file(name, which) for which in ("system", "backing", "vars")]
    for file in (*files, disk_file(name, "system", "-b"), disk_file(name, "backing", "-b")):
        (directory / file).unlink(missing_ok=True)


def swap(directory: Path, one: str, other: str) -> None:
    """Exchange two nodes' backing disks, of a mirrored pair the first ones."""
    first, second = directory / disk_file(one, "backing"), directory / disk_file(other, "backing")
    aside = first.with_suffix(".swapped")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def _create(directory: Path, file: str, command: list[str], *size: str) -> None:
    if (directory / file).exists():
        return
    # Under its own name only when whole: what was cut off is made again.
    run(["qemu-img", *command, f"{file}.part", *size], cwd=directory)
    (directory / f"{file}.part").rename(directory / file)


def available_memory() -> int:
    """Bytes of memory that this host can give without swapping (MemAvailable, proc(5))."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10
