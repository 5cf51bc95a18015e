"""Disk rules: where they stand, whether two of them can ever mean the same disk, and which of them may wipe one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

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


def names_each_disk(rule: DiskRule) -> bool:
    """Whether the rule gives the exact serial of its disk, or of both its disks."""
    return len(rule.serials) == (2 if rule.raid1 else 1) and all(map(is_exact, rule.serials))


def mirror_faults(cluster: Cluster) -> Iterator[Fault]:
    """Each rule that can never mean as many disks as it has to: two for a mirror, else one."""
    for where, rule in rules(cluster):
        serials = rule.serials
        if not rule.raid1:
            if isinstance(rule.serial, tuple):
                problem = "a list of serials is for a mirrored pair of disks, and this rule is for one disk"
                yield (*where, "serial"), problem, "add raid1: true, or give one serial"
        elif rule.wwn is not None:
            problem = "a world wide name is that of one disk, and raid1 takes two"
            yield (*where, "wwn"), problem, "give both disks' serials: `serial: [ABC123, ABC124]`"
        elif isinstance(rule.serial, str):
            if is_exact(rule.serial):
                problem = f"{rule.serial} is one disk, and raid1 takes two"
                yield (*where, "serial"), problem, f"give both: `serial: [{rule.serial}, ...]`"
        elif len(serials) not in (0, 2):
            problem = f"{len(serials)} serials, and raid1 takes exactly two disks"
            yield (*where, "serial"), problem, "give one for each of the two disks"
        elif serials and not globs_apart(*serials):
            problem = f"{serials[0]} and {serials[1]} can mean the same disk"
            yield (*where, "serial"), problem, "give each of the two disks a serial of its own, or one pattern for both"


def unsafe_wipes(cluster: Cluster) -> Iterator[Fault]:
    """Each wipe that is not for one disk, or one mirrored pair, of one node, named by its serial number."""
    serials: dict[str, Location] = {}
    for where, rule in rules(cluster):
        if not rule.wipe:
            continue
        if where[0] == "storage":
            problem = "this rule holds for both nodes, and wipe is for one disk of one of them"
            remedy = f"write it under nodes[].disks.{where[-1]} of that node, beside the exact serial of the disk"
            yield (*where, "wipe"), problem, remedy
        elif not rule.serials:
            problem = f"nothing here says which {'two disks are' if rule.raid1 else 'one disk is'} to be wiped"
            them = "both serials" if rule.raid1 else "its serial"
            yield (*where, "wipe"), problem, f"add {them}, as `lsblk -o PATH,SERIAL` shows it"
        elif vague := [serial for serial in rule.serials if not is_exact(serial)]:
            problem = f"{vague[0]} can mean several disks, and wipe is for one"
            remedy = "give the exact serial, as `lsblk -o PATH,SERIAL` shows it, without * ? ["
            if rule.raid1:
                problem = f"{vague[0]} does not say which disks, and wipe is for two that are named"
                remedy = "give both exact serials, as `lsblk -o PATH,SERIAL` shows them, without * ? ["
            yield (*where, "serial"), problem, remedy
        elif taken := [serial for serial in rule.serials if serial in serials]:
            problem = f"{taken[0]} is to be wiped at {yaml_path(serials[taken[0]])} already"
            yield (*where, "serial"), problem, "give the serial of this node's own disk"
        else:
            serials |= dict.fromkeys(rule.serials, (*where, "serial"))


def is_empty(rule: DiskRule) -> bool:
    """Whether the rule asks for nothing, so that every disk would fit."""
    criteria = (rule.serial, rule.wwn, rule.model, rule.min_size, rule.max_size)
    return all(value is None for value in criteria)


def proven_apart(one: DiskRule, other: DiskRule) -> bool:
    """Whether no disk whatever can fit both rules: some criterion that both name cannot hold for both."""
    return (
        _all_apart(one.serials, other.serials)
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


def _all_apart(one: Sequence[str], other: Sequence[str]) -> bool:
    return bool(one and other) and all(globs_apart(a, b) for a in one for b in other)


def _globs_apart(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and globs_apart(one, other)


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.casefold() != other.casefold()


def _all_below(largest: int | None, smallest: int | None) -> bool:
    return largest is not None and smallest is not None and largest < smallest
