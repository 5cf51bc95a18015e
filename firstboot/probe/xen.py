"""Parsers for Xen: `xl list -v` and `xl info`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from firstboot.errors import ProbeError

DOM0 = 0
"""Number of the domain that this program runs in."""

_MIB = 1 << 20
_COLUMNS = ("Name", "ID", "Mem", "VCPUs", "State", "UUID", "Reason-Code")
_FLAGS = re.compile(r"[r-][b-][p-][s-][-rscwS?][d-]")
"""Running, blocked, paused, shut down, the reason for that in a letter, dying (tools/xl/xl_info.c, list_domains)."""

_RELEASE = re.compile(r"^(\d+)\.(\d+)")

State = Literal["running", "paused", "shutdown", "crashed", "dying"]
Transit = Literal["", "incoming", "migratedaway"]


@dataclass(frozen=True)
class Domain:
    """A domain on this node. memory: MiB; reason: why it has shut down (SHUTDOWN_* in Xen's public/sched.h), else None.

    A dying domain is gone for its guest, but Xen has not got back all of its memory and devices yet.
    """

    name: str
    domid: int
    memory: int
    vcpus: int
    state: State
    reason: int | None = None
    uuid: str = ""

    @property
    def transit(self) -> Transit:
        """The part of a live migration that it is: xl gives both ends another name (tools/xl/xl_migrate.c)."""
        if self.name.endswith("--incoming"):
            return "incoming"
        return "migratedaway" if self.name.endswith("--migratedaway") else ""

    @property
    def guest(self) -> str:
        """Name of the guest that it is, or is to become, or was."""
        return self.name.removesuffix(f"--{self.transit}") if self.transit else self.name

    @property
    def ended(self) -> bool:
        """It runs no more, and stays as it is until somebody destroys it."""
        return self.state in ("shutdown", "crashed")


@dataclass(frozen=True)
class Hypervisor:
    """What Xen says of itself and its machine. version: like 4.20.5; memory: bytes.

    virt_caps: hvm, hap and so on; hw_caps: words of the CPU's features, a bit each.
    """

    version: str
    free_memory: int
    total_memory: int
    virt_caps: frozenset[str]
    hw_caps: tuple[int, ...]

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor = _RELEASE.findall(self.version)[0]
        return int(major), int(minor)


def parse_xl_list(text: str) -> tuple[Domain, ...]:
    """What `xl list -v` printed. Raises ProbeError, also where dom0 is missing in it: then others may be too."""
    lines = text.splitlines()
    header = lines[0].split() if lines else []
    if not set(_COLUMNS) <= set(header):
        raise ProbeError(f"xl list -v printed what is not its table: {text[:200]!r}")
    at = {column: header.index(column) for column in _COLUMNS}
    domains = tuple(_domain(line, at) for line in lines[1:] if line.strip())
    if DOM0 not in (domain.domid for domain in domains):
        raise ProbeError(f"xl list -v does not show dom0: {text[:200]!r}")
    return domains


def _domain(line: str, at: dict[str, int]) -> Domain:
    fields = line.split()
    try:
        flags = fields[at["State"]]
        if not _FLAGS.fullmatch(flags):
            raise ValueError(f"{flags!r} is no state")
        reason = fields[at["Reason-Code"]]
        return Domain(
            fields[at["Name"]],
            int(fields[at["ID"]]),
            int(fields[at["Mem"]]),
            int(fields[at["VCPUs"]]),
            _state(flags),
            None if reason == "-" else int(reason, 16),
            fields[at["UUID"]],
        )
    except (ValueError, IndexError) as e:
        raise ProbeError(f"xl list -v printed a line that is not understood: {e}: {line!r}") from e


def _state(flags: str) -> State:
    if flags[5] == "d":
        return "dying"
    if flags[3] == "s":
        return "crashed" if flags[4] == "c" else "shutdown"
    return "paused" if flags[2] == "p" else "running"


def parse_xl_info(text: str) -> dict[str, str]:
    """The `key : value` lines of `xl info`."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}


def parse_hypervisor(text: str) -> Hypervisor:
    """What `xl info` printed. Raises ProbeError."""
    info = parse_xl_info(text)
    try:
        found = Hypervisor(
            info["xen_version"],
            int(info["free_memory"]) * _MIB,
            int(info["total_memory"]) * _MIB,
            frozenset(info["virt_caps"].split()),
            tuple(int(word, 16) for word in info["hw_caps"].split(":")),
        )
        _ = found.release
    except (KeyError, ValueError, IndexError) as e:
        raise ProbeError(f"xl info printed what is not understood: {e}: {text[:200]!r}") from e
    return found
