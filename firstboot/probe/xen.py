"""Parsers for Xen: `xl list` and `xl info`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from firstboot.errors import ProbeError


@dataclass(frozen=True)
class Domain:
    """A running domain: its name and number."""

    name: str
    domid: int


def parse_xl_list(text: str) -> tuple[Domain, ...]:
    """What `xl list -l` printed (a JSON list), dom0 included. Raises ProbeError."""
    try:
        domains = json.loads(text)
        if not isinstance(domains, list):
            raise TypeError("not a list")
        return tuple(Domain(raw["config"]["c_info"].get("name", "Domain-0"), int(raw["domid"])) for raw in domains)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ProbeError(f"xl list -l printed what is not its JSON: {e}: {text[:200]!r}") from e


def parse_xl_info(text: str) -> dict[str, str]:
    """The `key : value` lines of `xl info`."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}
