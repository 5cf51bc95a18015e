"""What has to be true after every round. Pure: what the nodes said goes in, findings come out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lab.guest import Answer, Entry

_CHANGE = re.compile(r"\b(role|peer|conn|disk|pdsk|susp)\( (\S+) -> (\S+) \)")
_BOOT = re.compile(r"^-- Boot |\bkernel: Linux version \d")
_FENCED = re.compile(
    r"fence-peer helper returned 7 \(peer was stonithed\)|xenpair\[\d+\]: fencing: proven: \S+ is off by its BMC"
)
"""The kernel's word for it, and ours: the flight that has the proof lets frozen I/O go before the handler ends."""
_TALKS = (
    "Connected",
    "SyncSource",
    "SyncTarget",
    "PausedSyncS",
    "PausedSyncT",
    "VerifyS",
    "VerifyT",
    "Ahead",
    "Behind",
)
SPLIT_BRAIN = re.compile(r"Split-Brain detected|split-brain|bm UUID was already set", re.IGNORECASE)
"""The last one: DRBD forgets from which generation the two sides parted, and will take the peer for a stranger."""


@dataclass
class _View:
    """One node's DRBD as its kernel has told it, line by line."""

    conn: str = "StandAlone"
    disk: str = "Diskless"
    pdsk: str = "DUnknown"
    fenced: bool = False
    """The peer was proven off since this node last heard it."""


def unproven(log: str) -> list[str]:
    """Lines of one node's log (kernel and xenpair), over any number of boots, in which it went on without consent.

    Consent: both disks UpToDate, and connected. Else the peer must have been proven off since it was last heard, both
    for becoming Primary and for letting frozen I/O go on.
    """
    view, found = _View(), []
    for line in log.splitlines():
        if _BOOT.search(line):
            view = _View()
        if _FENCED.search(line):
            view.fenced = True
        changes = {what: (before, after) for what, before, after in _CHANGE.findall(line)}
        for what in ("conn", "disk", "pdsk"):
            if what in changes:
                setattr(view, what, changes[what][1])
        if view.conn in _TALKS:
            view.fenced = False
        consent = view.conn in _TALKS and view.disk == "UpToDate" and view.pdsk == "UpToDate"
        promoted = changes.get("role", ("", ""))[1] == "Primary"
        released = changes.get("susp", ("", "")) == ("1", "0")
        if promoted and not (consent or view.fenced):
            found.append(line.strip())
        if released and not (view.conn in _TALKS or view.fenced):
            found.append(line.strip())
    return found


def ran_twice(entries: Sequence[Entry]) -> list[str]:
    """Places in a guest's diary where two boots of it have written at the same time.

    Each boot appends to what it finds: one that comes back after another, or meets what it has not written itself, was
    not alone.
    """
    found, last, over = [], "", set()
    for entry in entries:
        if entry.boot != last:
            if entry.boot in over:
                found.append(f"boot {entry.boot} writes entry {entry.at} after boot {last} has begun")
            over.add(last)
            last = entry.boot
        if entry.collision:
            found.append(f"boot {entry.boot} found entry {entry.at} written by somebody else")
    return found


def forgotten(entries: Sequence[Entry], answers: Sequence[Answer]) -> list[str]:
    """Entries that a guest has answered for and that are not in its diary: its disk was set back, or never written.

    An empty diary is a finding of its own: ran_twice() could find nothing in it.
    """
    if not entries:
        return ["its diary is empty"]
    there = {(entry.boot, entry.at) for entry in entries}
    return [f"entry {a.at} of boot {a.boot} is gone" for a in answers if (a.boot, a.at) not in there]


def split_brains(log: str) -> list[str]:
    """Lines in which DRBD found that both sides have data that the other one lacks, or that it will find so."""
    return [line.strip() for line in log.splitlines() if SPLIT_BRAIN.search(line)]
