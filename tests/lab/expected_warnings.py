"""Warnings that a clean boot may write, each with the reason why it is none of ours. Anything else is news."""

from __future__ import annotations

import re

EXPECTED: tuple[tuple[str, str], ...] = ()


def unexpected(journal: str) -> list[str]:
    """Lines of a journal at warning or above that no entry of EXPECTED explains."""
    patterns = [re.compile(pattern) for pattern, _ in EXPECTED]
    return [line for line in journal.splitlines() if line and not any(p.search(line) for p in patterns)]
