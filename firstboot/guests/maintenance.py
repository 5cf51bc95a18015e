"""Planned maintenance: everything off one node, and everything home again. Live where that works, else cold."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from config.capacity import guest_share
from config.door import run
from config.errors import XenpairError
from firstboot import ssh
from firstboot.errors import GuestError
from firstboot.guests import groups, running, verbs, xl
from firstboot.guests.definition import Guest
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.stack import stack

HAND_OVER_LIMIT = 120.0
"""Seconds for the cluster stack to hand groups from one node to the other."""
ASK_AGAIN = 10.0
"""Seconds after which it is asked once more: what heartbeat is asked while it settles, as after a start, it drops, and
says so in its log alone ("ignored. Other side is in flux", hb_resource.c). One hand-over at a time it takes anyway."""


def drain(pair: Pair, say: Callable[[str], None]) -> None:
    """Send every guest that is on this node to the peer, then the groups: the node can be rebooted.

    Raises GuestError, before anything is done, where the peer cannot take them all, and where one did not go.
    """
    guests = _here(pair)
    peer = pair.peer()
    if peer is None:
        raise GuestError(f"{pair.brief.peer} is off: this node is the only one")
    need = sum(guest_share(guest.definition) for guest in guests)
    if need > (free := peer.hypervisor().free_memory):
        raise GuestError(
            f"{pair.brief.peer} has {free >> 20}M free, and the guests here need {-(-need >> 20)}M",
            hint="stop one that can be spared; `xenpair capacity` shows what each needs",
        )
    _send(pair, guests, say)
    say(f"the guest groups go to {pair.brief.peer}")
    _hand_over(
        lambda: stack().stand_by(pair.brief),
        lambda: not groups.carried(pair.places),
        "the cluster stack still leaves guests to this node",
    )
    say(f"{pair.brief.node} carries nothing: it can be rebooted; `xenpair rebalance` brings its guests home")


def rebalance(pair: Pair, say: Callable[[str], None], *, this_side: bool = False) -> None:
    """Send each guest that is not at home there, from both nodes (this_side: from this one), and the groups after them.

    Raises GuestError where one did not go.
    """
    if pair.peer() is None:
        raise GuestError(f"{pair.brief.peer} is off: nothing can go home")
    _send(pair, [guest for guest in _here(pair) if guest.definition.home != pair.brief.node], say)
    if not this_side:
        there = ssh.to_peer(pair.brief.peer, "rebalance", "--this-side")
        say(run(there, timeout=None).stdout.strip() or f"nothing on {pair.brief.peer} is away from home")
    if pair.brief.node not in groups.carried(pair.places):
        say(f"the guests of {pair.brief.node} are left to {pair.brief.node} again")
        _hand_over(
            lambda: stack().bring_home(pair.brief),
            lambda: pair.brief.node in groups.carried(pair.places),
            "the cluster stack does not hand them over",
        )


def _here(pair: Pair) -> list[Guest]:
    domains = xl.domains()
    guests = [guest for guest in registry(pair.brief.volume_group) if running.here(guest.name, domains) is not None]
    return sorted(guests, key=lambda guest: (-guest.definition.priority, guest.name))


def _send(pair: Pair, guests: Sequence[Guest], say: Callable[[str], None]) -> None:
    failed = []
    for guest in guests:
        try:
            hindrances = verbs.hindrances(pair, guest.name)
            if hindrances:
                say(f"{guest.name} cannot go live ({'; '.join(hindrances)})")
                verbs.move(pair, guest.name, say)
            else:
                say(f"{guest.name} goes to {pair.brief.peer} while it runs")
                verbs.migrate(pair, guest.name)
        except XenpairError as e:
            say(f"{guest.name}: {e}")
            failed.append(guest.name)
    if failed:
        raise GuestError(f"still on {pair.brief.node}: {', '.join(failed)}", hint="the reasons stand above")


def _hand_over(ask: Callable[[], None], happened: Callable[[], bool], otherwise: str) -> None:
    """Ask until it has happened. Raises GuestError where it has not within HAND_OVER_LIMIT, CommandError."""
    begun = asked = time.monotonic()
    ask()
    while not happened():
        now = time.monotonic()
        if now - begun > HAND_OVER_LIMIT:
            raise GuestError(f"{otherwise}, after {HAND_OVER_LIMIT:.0f} s", hint="see `journalctl -u heartbeat`")
        if now - asked >= ASK_AGAIN:
            ask()
            asked = now
        time.sleep(1)
