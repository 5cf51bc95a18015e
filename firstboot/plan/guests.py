"""What the supervisor does about one guest, decided from what this node sees. Pure; whoever starts it asks the peer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firstboot.guests.definition import Definition
from firstboot.probe.xen import Domain

REBOOT, SUSPEND, CRASH, WATCHDOG = 1, 2, 3, 4
"""Why a domain ended: SHUTDOWN_* in Xen's public/sched.h; 0 is poweroff."""
CRASHES = (CRASH, WATCHDOG)
REASONS: dict[int | None, str] = {
    0: "powered off",
    REBOOT: "rebooted",
    SUSPEND: "suspended",
    CRASH: "crashed",
    WATCHDOG: "hung (watchdog)",
}

SHORT_LIFE = 60.0
"""Seconds: a guest that ended sooner after its start is started again only after a pause."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
"""Seconds between starts of a guest that ends at once each time: doubled from the first to the longest."""


@dataclass(frozen=True)
class Leave:
    """Nothing is to be done about it here."""


@dataclass(frozen=True)
class Start:
    """It should run, does not run here, and this node carries its group: ask the peer, then start it."""


@dataclass(frozen=True)
class Revive:
    """It has ended here, and is to run again here. domid: of what is left of it."""

    domid: int


@dataclass(frozen=True)
class Bury:
    """It has ended here, and stays so. domid: of what is left of it; rest: it is to be noted as stopped."""

    domid: int
    rest: bool


@dataclass(frozen=True)
class Sweep:
    """A live migration died and left this here. It is removed once nobody holds the guest's lock."""

    domid: int


Step = Leave | Start | Revive | Bury | Sweep


def next_guest_step(guest: Definition, domains: Sequence[Domain], *, carried: bool) -> Step:
    """What is next for this guest. domains: all of this node's; carried: whether its group is this node's to carry."""
    own = [domain for domain in domains if domain.guest == guest.name]
    if guest.phase != "ready":
        return Leave()
    for domain in own:
        if domain.transit:
            return Sweep(domain.domid)
    if not own:
        return Start() if guest.wanted == "running" and carried else Leave()
    domain = own[0]
    if not domain.ended:
        return Leave()
    if guest.wanted == "running" and _comes_back(guest, domain):
        return Revive(domain.domid)
    return Bury(domain.domid, rest=guest.wanted == "running")


def _comes_back(guest: Definition, domain: Domain) -> bool:
    if domain.reason in (REBOOT, SUSPEND):
        # Suspended and not gone: a live migration that died at its last step.
        return True
    if domain.reason in CRASHES or domain.state == "crashed":
        return guest.restart in ("always", "on-crash")
    return guest.restart == "always"


def pause_before(short_lives: int) -> float:
    """Seconds to wait before a guest is started that has ended that many times in a row soon after its start."""
    return 0.0 if short_lives == 0 else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (short_lives - 1))
