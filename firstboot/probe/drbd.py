"""Parsers for DRBD 8.4: /proc/drbd, and what drbdmeta dumps of a metadata block."""

from __future__ import annotations

import re
from dataclasses import dataclass

from firstboot.errors import ProbeError

UUID_JUST_CREATED = 0x4
"""Current UUID that create-md writes: no data generation yet (linux/drbd.h, UUID_JUST_CREATED)."""

_DEVICE = re.compile(
    r"^\s*(?P<minor>\d+): cs:(?P<connection>\w+)"
    r"(?: ro:(?P<role>\w+)/(?P<peer_role>\w+) ds:(?P<disk>\w+)/(?P<peer_disk>\w+)"
    # The protocol is blank until there is a connection.
    r" (?P<protocol>[ABC ]) (?P<flags>\S+))?"
)
_OUT_OF_SYNC = re.compile(r"\boos:(\d+)")
_SYNCED = re.compile(r"sync'ed:\s*([0-9.]+)%")


@dataclass(frozen=True)
class DrbdState:
    """One device of /proc/drbd. out_of_sync is in KiB; synced in percent while a resync runs, else None."""

    connection: str
    role: str = "Unknown"
    peer_role: str = "Unknown"
    disk: str = "DUnknown"
    peer_disk: str = "DUnknown"
    suspended: bool = False
    out_of_sync: int = 0
    synced: float | None = None

    @property
    def both_up_to_date(self) -> bool:
        """Connected, and each side vouches for its data."""
        return self.connection == "Connected" and self.disk == "UpToDate" and self.peer_disk == "UpToDate"


UNCONFIGURED = DrbdState("Unconfigured")


def parse_proc_drbd(text: str, minor: int = 0) -> DrbdState:
    """The state of one minor; Unconfigured where the module is loaded and the device is not up.

    Raises ProbeError for text that is not /proc/drbd of DRBD 8.4.
    """
    if not text.startswith("version: 8.4."):
        raise ProbeError(f"/proc/drbd starts with {text[:40]!r}, not with version 8.4")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = _DEVICE.match(line)
        if match is None or int(match["minor"]) != minor:
            continue
        if match["role"] is None:
            return DrbdState(match["connection"])
        rest = []
        for further in lines[number + 1 :]:
            if _DEVICE.match(further):
                break
            rest.append(further)
        detail = "\n".join(rest)
        out_of_sync, synced = _OUT_OF_SYNC.search(detail), _SYNCED.search(detail)
        return DrbdState(
            connection=match["connection"],
            role=match["role"],
            peer_role=match["peer_role"],
            disk=match["disk"],
            peer_disk=match["peer_disk"],
            # First flag: r for running I/O, s for suspended (DRBD 8.4 user's guide, "I/O state flags").
            suspended=match["flags"].startswith("s"),
            out_of_sync=int(out_of_sync[1]) if out_of_sync else 0,
            synced=float(synced[1]) if synced else None,
        )
    return UNCONFIGURED


@dataclass(frozen=True)
class Metadata:
    """What a metadata block says of its data: the current UUID and the size it was last agreed at (sectors)."""

    current_uuid: int
    la_size: int

    @property
    def fresh(self) -> bool:
        """Made by create-md, and no generation of data since."""
        return self.current_uuid == UUID_JUST_CREATED


def parse_dump_md(text: str) -> Metadata:
    """What `drbdmeta ... dump-md` printed. Raises ProbeError where that is not a version 08 dump."""
    uuid = re.search(r"^uuid \{\s*0x([0-9A-Fa-f]{16});", text, re.MULTILINE)
    size = re.search(r"^la-size-sect (\d+);", text, re.MULTILINE)
    if not (text.lstrip("# \n").startswith("DRBD meta data dump") or 'version "v08";' in text) or not (uuid and size):
        raise ProbeError(f"drbdmeta dumped what is not v08 metadata: {text[:200]!r}")
    return Metadata(int(uuid[1], 16), int(size[1]))


@dataclass(frozen=True)
class Generations:
    """The UUIDs of a side's data, without their lowest bit. bitmap: where it began to go on without the peer, or 0."""

    current: int
    bitmap: int
    history: tuple[int, ...]


def parse_get_gi(text: str) -> Generations:
    """What `drbdadm get-gi` printed of one device. Raises ProbeError."""
    try:
        current, bitmap, *history = (int(number, 16) & ~1 for number in text.split(":")[:4])
        return Generations(current, bitmap, (history[0], history[1]))
    except (ValueError, IndexError) as e:
        raise ProbeError(f"drbdadm get-gi printed what is not generations: {text[:200]!r}") from e
