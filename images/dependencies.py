"""What packages say of each other (Debian policy, chapter 7), as far as an order of configuring them needs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """One package: what it needs, by name only, each with its alternatives; and which names it stands for."""

    name: str
    essential: bool
    needs: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]

    @classmethod
    def parse(cls, paragraph: str) -> Package:
        """From a paragraph of a control or status file. Versions are passed over: apt has seen to them."""
        fields = dict(re.findall(r"^(\S+): (.*)$", paragraph, flags=re.MULTILINE))
        clauses = [clause for name in ("Pre-Depends", "Depends") for clause in _split(",", fields.get(name, ""))]
        return cls(
            fields["Package"],
            fields.get("Essential") == "yes",
            tuple(tuple(_name(word) for word in _split("|", clause)) for clause in clauses),
            tuple(_name(word) for word in _split(",", fields.get("Provides", ""))),
        )


def closure(roots: Iterable[str], packages: Iterable[Package]) -> set[str]:
    """The roots and all that they need, as far as it is among the packages: every alternative, and every provider."""
    known = {package.name: package for package in packages}
    providers = _providers(known)
    found, todo = set[str](), list(roots)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [real for clause in known[name].needs for word in clause for real in providers.get(word, ())]
    return found


def _providers(packages: Mapping[str, Package]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for package in packages.values():
        for name in (package.name, *package.provides):
            found.setdefault(name, []).append(package.name)
    return found


def _split(separator: str, text: str) -> list[str]:
    return [word.strip() for word in text.split(separator) if word.strip()]


def _name(word: str) -> str:
    """Of `name:any (>= version) [architecture]` the name."""
    return re.split(r"[\s:(\[]", word, maxsplit=1)[0]
