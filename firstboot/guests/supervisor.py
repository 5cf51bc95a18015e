"""The supervisor: starts the guests that should run here, and looks after those that have ended.

It is the only one that acts on its own. It asks before each start, under the guest's lock, whether the peer has the
guest; what it cannot know, it does not start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from config.errors import CommandError, XenpairError
from firstboot import observe
from firstboot.brief import Brief
from firstboot.errors import ElsewhereError, HeldError, LockedError, ProbeError
from firstboot.guests import groups, held, running, volumes, xl
from firstboot.guests.bell import Bell
from firstboot.guests.definition import Definition, Guest
from firstboot.guests.pair import Pair
from firstboot.guests.registry import legible
from firstboot.places import Places
from firstboot.plan.guests import (
    REASONS,
    SHORT_LIFE,
    Bury,
    Leave,
    Revive,
    Start,
    Step,
    Sweep,
    next_guest_step,
    pause_before,
)
from firstboot.probe.drbd import DrbdState
from firstboot.probe.xen import Domain

log = logging.getLogger("xenpair")

ROUND = 20.0
"""Seconds between two looks where nothing rings."""
RETRY = 3.0
"""Seconds until a guest is tried again that could not be dealt with."""
GLANCE = 0.5
"""Seconds between two glances at /proc/drbd, which is a file and costs nothing."""
NODE = "this node"
"""In the place of a guest's name, which has no blank."""
BELIEVED = 60.0
"""Seconds for which the peer's word that it has a guest is believed, unless something rings: each question is an SSH
session, or a message in one."""


@dataclass
class _Life:
    """What the supervisor remembers of a guest. Times on the monotonic clock."""

    started: float = 0.0
    short_lives: int = 0
    not_before: float = 0.0
    away_until: float = 0.0


class Supervisor:
    """Of one node. now: seconds on a clock that nobody sets."""

    def __init__(self, brief: Brief, places: Places, *, now: Callable[[], float] = time.monotonic) -> None:
        self._brief, self._places, self._now = brief, places, now
        self._lives: dict[str, _Life] = {}
        self._held: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._heard = False
        """Whether the peer was connected since it was last proven off."""

    def run(self) -> None:
        """For as long as the node is up."""
        with Bell(self._places) as bell, Pair(self._brief, self._places) as pair:
            while True:
                soon = self.look(pair)
                self._rest(bell, RETRY if soon else ROUND)

    def _rest(self, bell: Bell, seconds: float) -> None:
        before, deadline = _roles(observe.drbd()), self._now() + seconds
        while (left := deadline - self._now()) > 0:
            if bell.wait(min(GLANCE, left)) or _roles(observe.drbd()) != before:
                for life in self._lives.values():
                    life.away_until = 0.0
                return

    def look(self, pair: Pair) -> bool:
        """Deal with every guest once, the most important first; True where something is to be tried again soon."""
        self._inherit(pair)
        drbd = observe.drbd()
        if drbd.role != "Primary" or drbd.suspended:
            return True
        try:
            guests = [
                guest.definition for guest in legible(self._brief.volume_group, lambda e: self._say("a volume", str(e)))
            ]
            domains = xl.domains()
        except (CommandError, ProbeError) as e:
            self._say(NODE, f"nothing can be done: {e}")
            return True
        self._said.pop(NODE, None)
        carried = groups.carried(self._places)
        self._held = {name: why for name, why in self._held.items() if any(guest.name == name for guest in guests)}
        results = [
            self._deal_with(pair, guest, domains, carried=guest.home in carried)
            for guest in sorted(guests, key=lambda guest: (-guest.priority, guest.name))
        ]
        held.write(self._places, self._held)
        return not all(results)

    def _inherit(self, pair: Pair) -> None:
        """Carry the peer's groups as soon as it is proven off, once for each time.

        The stack hands them over as well, but only after its deadtime and all that it does then. Where it has handed
        nothing to this node, such as after a drain, the word stays its own.
        """
        state = pair.state()
        if state == "connected":
            self._heard = True
        elif state == "off" and self._heard:
            self._heard = False
            carried = groups.carried(self._places)
            for group in {self._brief.node, self._brief.peer} - set(carried) if carried else ():
                groups.carry(self._places, group)

    def _deal_with(self, pair: Pair, guest: Definition, domains: tuple[Domain, ...], *, carried: bool) -> bool:
        """False where it has to be tried again soon."""
        step = next_guest_step(guest, domains, carried=carried)
        life = self._lives.setdefault(guest.name, _Life())
        if not isinstance(step, Start):
            self._held.pop(guest.name, None)
        if isinstance(step, Leave):
            return True
        if isinstance(step, Start | Revive) and self._now() < max(life.not_before, life.away_until):
            return True
        try:
            # Our own half of the lock first: whoever is at it from this node is met without a word to the peer.
            with pair.lock(f"guest/{guest.name}", what=f"supervisor: {type(step).__name__.lower()}", wait=0):
                self._act(pair, guest.name, step, life)
        except LockedError:
            return False
        except HeldError as e:
            self._held[guest.name] = e.message
            self._say(guest.name, f"held: {e.message}")
            return True
        except XenpairError as e:
            self._say(guest.name, str(e))
            life.not_before = self._now() + RETRY
            return False
        self._held.pop(guest.name, None)
        self._said.pop(guest.name, None)
        return True

    def _act(self, pair: Pair, name: str, before: Step, life: _Life) -> None:
        """Under the lock: look again, since everything may have changed, and do it if it still has to be done."""
        found = [guest for guest in legible(self._brief.volume_group, lambda _: None) if guest.name == name]
        if not found:
            return
        guest = found[0]
        carried = guest.definition.home in groups.carried(self._places)
        domains = xl.domains()
        step = next_guest_step(guest.definition, domains, carried=carried)
        if type(step) is not type(before):
            return
        try:
            self._take(pair, guest, step, life, domains)
        except ElsewhereError:
            life.away_until = self._now() + BELIEVED
            if isinstance(step, Revive):
                running.clear(name)

    def _take(self, pair: Pair, guest: Guest, step: Step, life: _Life, domains: tuple[Domain, ...]) -> None:
        match step:
            case Start():
                running.start(pair, guest, domains)
                life.started = self._now()
            case Revive():
                running.prove_elsewhere_absent(pair, guest.name)
                if (ended := running.here(guest.name)) is not None:
                    log.info("guests: %s has %s, and is started again", guest.name, _why(ended))
                self._count_life(life)
                running.clear(guest.name)
                if (wait := life.not_before - self._now()) > 0:
                    log.warning("guests: %s ends again and again: next start in %.0f s", guest.name, wait)
                    return
                running.start(pair, guest)
                life.started = self._now()
            case Bury(domid, rest):
                if rest:
                    log.info("guests: %s has ended, and its config says that it stays so", guest.name)
                    volumes.retag(pair, guest.definition, replace(guest.definition, wanted="stopped"))
                xl.destroy(domid)
            case Sweep(domid):
                log.warning("guests: a live migration of %s died and left domain %d here: removed", guest.name, domid)
                xl.destroy(domid)
            case Leave():
                pass

    def _count_life(self, life: _Life) -> None:
        short = self._now() - life.started < SHORT_LIFE
        life.short_lives = life.short_lives + 1 if short else 0
        life.not_before = self._now() + pause_before(life.short_lives - 1 if life.short_lives else 0)

    def _say(self, name: str, what: str) -> None:
        """Once for each new reason."""
        if self._said.get(name) != what:
            self._said[name] = what
            log.warning("guests: %s: %s", name, what)


def _why(domain: Domain) -> str:
    return REASONS.get(domain.reason, f"ended ({domain.state}, reason {domain.reason})")


def _roles(drbd: DrbdState) -> tuple[str, str, str, bool]:
    return drbd.connection, drbd.role, drbd.peer_role, drbd.suspended
