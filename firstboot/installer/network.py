"""The one network card that the firmware has booted by, with the address that it got there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from config.door import run
from firstboot.installer.arguments import FromServer

CARDS = Path("/sys/class/net")
SOON = 5.0
"""Seconds in which a card shows up, or a link comes up, mostly: only then is anything said."""


def bring_up(origin: FromServer, waiting: Callable[[str], None]) -> None:
    """Give the card its address, and wait for its link. Raises CommandError."""
    name = _await(lambda: card(origin.card), waiting, f"no network card {origin.card} has shown up yet")
    run(["ip", "link", "set", "dev", name, "up"])
    run(["ip", "address", "replace", origin.address, "dev", name])
    if origin.gateway:
        run(["ip", "route", "replace", "default", "via", origin.gateway, "dev", name])
    _await(lambda: _has_link(name), waiting, f"{name} ({origin.card}) has no link: is its cable plugged in?")


def card(mac: str) -> str | None:
    """The name of the interface with that MAC address."""
    found = (path.parent.name for path in CARDS.glob("*/address") if path.read_text().strip().lower() == mac)
    return next(found, None)


def _has_link(name: str) -> str | None:
    try:
        return name if (CARDS / name / "carrier").read_text().strip() == "1" else None
    except OSError:
        # The kernel answers EINVAL while an interface is down.
        return None


def _await(look: Callable[[], str | None], waiting: Callable[[str], None], reason: str) -> str:
    begun = time.monotonic()
    while (found := look()) is None:
        if time.monotonic() - begun > SOON:
            waiting(reason)
        time.sleep(0.1)
    return found
