"""What a machine can be recognised by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """What a machine can be recognised by. nics: MAC address by interface name, physical cards only."""

    nics: Mapping[str, str]
    serial: str = ""
    uuid: str = ""

    def __str__(self) -> str:
        cards = ", ".join(f"{name} {mac}" for name, mac in sorted(self.nics.items())) or "none"
        return f"network cards: {cards}; DMI serial: {self.serial or 'none'}; DMI UUID: {self.uuid or 'none'}"
