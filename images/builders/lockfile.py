"""requirements.lock, as pip-compile has written it: the part that a build needs, without what tests and linters do."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

_ENTRY = re.compile(r"^([a-z0-9.-]+)==\S+ \\\n(?: {4}--hash=\S+(?: \\)?\n)+((?: {4}#.*\n?)*)", re.MULTILINE)


@dataclass(frozen=True)
class _Entry:
    text: str
    wanted_by: frozenset[str]


def needed(lock: str, pyproject: str) -> str:
    """The entries of a lock, hashes included, for the dependencies of a pyproject.toml without its extras, and theirs.

    What wants a package is said by the lock's own `via` comments.
    """
    direct = {_name(requirement) for requirement in tomllib.loads(pyproject)["project"]["dependencies"]}
    entries = {
        match[1]: _Entry(match[0], frozenset(re.findall(r"[\w.-]+", match[2]))) for match in _ENTRY.finditer(lock)
    }
    found: set[str] = set()
    while new := {name for name, entry in entries.items() if name in direct or entry.wanted_by & found} - found:
        found |= new
    return "".join(entries[name].text for name in sorted(found))


def _name(requirement: str) -> str:
    """PEP 503: one name, however it is written."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()
