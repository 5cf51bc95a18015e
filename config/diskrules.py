"""Disk rules: where they stand, whether two of them can ever mean the same disk, and which of them may wipe one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from config.findings import Location, yaml_path
from config.model import Cluster, DiskRule

Fault = tuple[Location, str, str]
"""Where, what is wrong, what would be right."""


def rules(cluster: Cluster) -> Iterator[tuple[Location, DiskRule]]:
    """Every rule of the config, with its place."""
    yield ("storage", "system"), cluster.storage.system
    yield ("storage", "backing"), cluster.storage.backing
    for i, node in enumerate(cluster.nodes):
        if node.disks.system:
            yield ("nodes", i, "disks", "system"), node.disks.system
        if node.disks.backing:
            yield ("nodes", i, "disks", "backing"), node.disks.backing


def is_exact(serial: str | None) -> bool:
    """Whether a rule's serial means one disk only: it is there, and nothing in it stands for something else."""
    return serial is not None and not set(serial) & set("*?[")


def unsafe_wipes(cluster: Cluster) -> Iterator[Fault]:
    """Each wipe that is not for one disk of one node, named by its serial number."""
    serials: dict[str, Location] = {}
    for where, rule in rules(cluster):
        if not rule.wipe:
            continue
        if where[0] == "storage":
            problem = "this rule holds for both nodes, and wipe is for one disk of one of them"
            remedy = f"write it under nodes[].disks.{where[-1]} of that node, beside the exact serial of the disk"
            yield (*where, "wipe"), problem, remedy
        elif rule.serial is None:
            problem = "nothing here says which one disk is to be wiped"
            yield (*where, "wipe"), problem, "add its serial, as `lsblk -o PATH,SERIAL` shows it"
        elif not is_exact(rule.serial):
            problem = f"{rule.serial} can mean several disks, and wipe is for one"
            remedy = "give the exact serial, as `lsblk -o PATH,SERIAL` shows it, without * ? ["
            yield (*where, "serial"), problem, remedy
        elif rule.serial in serials:
            problem = f"{rule.serial} is to be wiped at {yaml_path(serials[rule.serial])} already"
            yield (*where, "serial"), problem, "give the serial of this node's own disk"
        else:
            serials[rule.serial] = (*where, "serial")


def is_empty(rule: DiskRule) -> bool:
    """Whether the rule asks for nothing, so that every disk would fit."""
    criteria = (rule.serial, rule.wwn, rule.model, rule.min_size, rule.max_size)
    return all(value is None for value in criteria)


def proven_apart(one: DiskRule, other: DiskRule) -> bool:
    """Whether no disk whatever can fit both rules: some criterion that both name cannot hold for both."""
    return (
        _globs_apart(one.serial, other.serial)
        or _globs_apart(one.model, other.model)
        or _differ(one.wwn, other.wwn)
        or _all_below(one.max_size, other.min_size)
        or _all_below(other.max_size, one.min_size)
    )


def globs_apart(one: str, other: str) -> bool:
    """Whether no text matches both patterns of * and ?. Case is ignored, which can only make it say so less often.

    Both patterns are read at once, from (0, 0) to their ends, along every way in which one text could go on.
    """
    a, b = _tokens(one), _tokens(other)
    reached, open_ends = {(0, 0)}, [(0, 0)]
    while open_ends:
        i, j = open_ends.pop()
        if (i, j) == (len(a), len(b)):
            return False
        following = {(i, j)}
        x, y = a[i : i + 1], b[j : j + 1]
        if "*" in {x, y}:
            # A star ends here, or swallows whatever the other pattern has next.
            following |= {(i + 1, j)} if x else set()
            following |= {(i, j + 1)} if y else set()
        elif x and y and (x == y or "?" in {x, y}):
            following = {(i + 1, j + 1)}
        open_ends += following - reached
        reached |= following
    return True


def _tokens(glob: str) -> str:
    """Character classes count as *: whether a matcher knows them or takes them literally, * covers both."""
    return re.sub(r"\[.*\]", "*", glob.casefold(), flags=re.DOTALL)


def _globs_apart(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and globs_apart(one, other)


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.casefold() != other.casefold()


def _all_below(largest: int | None, smallest: int | None) -> bool:
    return largest is not None and smallest is not None and largest < smallest
