"""Parser of what the kernel says of an md array below /sys/block/mdN/md (Linux, admin-guide/md.rst)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from firstboot.errors import ProbeError

ATTRIBUTES = ("array_state", "sync_action", "sync_completed")
"""Files of the array itself; each member has a dev-NAME/state besides."""

_MEMBER = re.compile(r"dev-(.+)/state")


@dataclass(frozen=True)
class Array:
    """An array of RAID1. Members by the kernel's names, like vdb1.

    in_sync: they hold the data; rebuilding: they are being copied to; faulty: md has given them up. percent: how far
    the copying that goes on is, or None where none does; a check that only reads does not count.
    """

    running: bool
    in_sync: frozenset[str] = frozenset()
    rebuilding: frozenset[str] = frozenset()
    faulty: frozenset[str] = frozenset()
    percent: int | None = None


def parse_array(files: Mapping[str, str]) -> Array:
    """From the content of those files by their path. Raises ProbeError where one of them says something unknown."""
    try:
        state, action = files["array_state"].strip(), files["sync_action"].strip()
        completed = files["sync_completed"].strip()
    except KeyError as e:
        if files.get("array_state", "").strip() in ("clear", "inactive"):
            return Array(running=False)
        raise ProbeError(f"md tells no {e} of an array") from e
    members = {match[1]: set(content.strip().split(",")) for match, content in _members(files)}
    copying = action in ("resync", "recover")
    return Array(
        running=state not in ("clear", "inactive"),
        in_sync=frozenset(name for name, words in members.items() if "in_sync" in words and "faulty" not in words),
        rebuilding=frozenset(name for name, words in members.items() if "spare" in words and action == "recover"),
        faulty=frozenset(name for name, words in members.items() if "faulty" in words),
        percent=_percent(completed) if copying else None,
    )


def _members(files: Mapping[str, str]) -> list[tuple[re.Match[str], str]]:
    return [(match, content) for path, content in files.items() if (match := _MEMBER.fullmatch(path))]


def _percent(completed: str) -> int:
    """sync_completed: `sectors done / sectors in all`, or a word where it has not begun."""
    match = re.fullmatch(r"(\d+) / (\d+)", completed)
    return int(match[1]) * 100 // int(match[2]) if match and int(match[2]) else 0
