"""Disk rules against each other: can two of them ever mean the same disk?"""

from __future__ import annotations

import re

from config.model import DiskRule


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
