"""`invoke doctor`: what this host lacks, and the command that mends each."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from config.loader import load
from config.model import Cluster
from images import doctor, preflight
from images.doctor import Finding
from lab import accelerator, bmc, disks, guest, machine
from lab.choices import one_of

Area = Literal["build", "media", "serve", "write-usb", "lab"]


def run(config: Path, out: Path, cache: Path, only: str) -> int:
    """Look at what these areas (comma-separated; all for an empty text) take, and print it as it is found.

    Returns the exit code: 0, or 1 where something needed is missing. Raises ConfigError, and LabError for an area that
    there is not.
    """
    cluster = load(config).cluster
    look: dict[Area, Callable[[], Iterator[Finding]]] = {
        "build": lambda: doctor.build(cluster.debian, cache, out),
        "media": lambda: doctor.media(out),
        "serve": doctor.serve,
        "write-usb": doctor.write_usb,
        "lab": lambda: lab(cluster, out / "xenpair.qcow2"),
    }
    found = []
    for area in areas(only):
        for finding in look[area]():
            sys.stdout.write(f"{line(finding)}\n")
            sys.stdout.flush()
            found.append(finding)
    if commands := mends(found):
        sys.stderr.writelines(f"{text}\n" for text in ("to mend it:", *(f"  {command}" for command in commands)))
    return 1 if any(finding.state == "missing" for finding in found) else 0


def areas(only: str) -> tuple[Area, ...]:
    """The areas of a comma-separated list. Raises LabError for one that there is not."""
    known: tuple[Area, ...] = get_args(Area)
    names = [name.strip() for name in only.split(",")] if only else known
    return tuple(one_of(known, name, f"there is nothing to look at called {name!r}", "it is one of") for name in names)


def lab(cluster: Cluster, image: Path) -> Iterator[Finding]:
    """What two virtual servers take."""
    needs = disks.NEEDS | disks.UEFI_NEEDS | guest.NEEDS
    if any(node.bmc for node in cluster.nodes):
        needs |= bmc.NEEDS
    yield from doctor.programs("lab", needs)
    yield doctor.check("lab", "memory", lambda: machine.check_memory(cluster, disks.available_memory()))
    if not preflight.missing(disks.NEEDS):
        yield _acceleration(cluster, image)


def _acceleration(cluster: Cluster, image: Path) -> Finding:
    memory = max(node.memory for node in cluster.nodes)
    verdict = accelerator.choose(image if image.exists() else None, memory, cache=accelerator.cache_file())
    if verdict.accelerator == "kvm":
        return Finding("lab", f"KVM: {verdict.reason}")
    closed = accelerator.KVM.exists() and not os.access(accelerator.KVM, os.R_OK | os.W_OK)
    mend = f"sudo usermod --append --groups kvm {getpass.getuser()}" if closed else ""
    return Finding("lab", f"no KVM: the lab runs under emulation, slowly ({verdict.reason})", "note", mend=mend)


def line(finding: Finding) -> str:
    """One finding: where, how it is, what, and of a note what to do."""
    remark = f": {finding.mend}" if finding.state == "note" and finding.mend else ""
    state = finding.state.upper() if finding.state == "missing" else finding.state
    return f"{finding.area:9}  {state:7}  {finding.what}{remark}"


def mends(found: Sequence[Finding]) -> list[str]:
    """What to do about what is missing, each once, and one command for all packages."""
    missing = [finding for finding in found if finding.state == "missing"]
    sudo = "" if os.geteuid() == 0 else "sudo "
    packages = {finding.package for finding in missing if finding.package}
    install = [sudo + preflight.install_command(packages)] if packages else []
    return [*install, *dict.fromkeys(finding.mend for finding in missing if finding.mend)]
