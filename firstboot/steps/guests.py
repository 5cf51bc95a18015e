"""The config's guests: made once, by the node that each is at home on, and started by the supervisor."""

from __future__ import annotations

import time
from typing import ClassVar

from config.door import run
from firstboot import storage
from firstboot.brief import Brief
from firstboot.errors import LockedError, NotNowError, PeerError
from firstboot.guests import bell, creation, held, running, wishes, xl
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.plan.replication import InitialSync
from firstboot.steps import Work

POLL = 2.0
"""Seconds between two looks for a guest that is to start."""


class Guests:
    """From then on the guests live in the volume group, and no config is asked for them again."""

    name: ClassVar[str] = "guests"
    text: ClassVar[str] = "the config's guests: made by the node they are at home on, started by the supervisor"

    def check(self, work: Work) -> bool:
        """Those at home here are there, and run, or wait for room, or were stopped by a person."""
        if run(["systemctl", "is-active", "--quiet", "xenpair-guests.service"], check=False).returncode != 0:
            return False
        if not (wanted := _ours(work)):
            return True
        if _missing(work, wanted):
            return False
        with _pair(work) as pair:
            return not _pending(work, wanted, pair)

    def apply(self, work: Work) -> None:
        """Make what is missing, and wait until it runs."""
        run(["systemctl", "start", "--no-block", "xenpair-guests.service"])
        if wanted := _ours(work):
            _make(work, wanted)
        while not self.check(work):
            work.waiting("the guests' supervisor is not there yet")
            time.sleep(POLL)


def _pair(work: Work) -> Pair:
    return Pair(Brief.of(work.node.cluster, work.node.me), work.node.places)


def _make(work: Work, wanted: list[str]) -> None:
    with _pair(work) as pair:
        while missing := _missing(work, wanted):
            guest = next(guest for guest in work.node.cluster.guests if guest.name == missing[0])
            try:
                creation.create(pair, wishes.from_config(work.node.cluster, guest), work.waiting)
            except (PeerError, LockedError, NotNowError) as e:
                # The peer may lose its power here as everywhere else: its return is waited for.
                work.waiting(f"{guest.name} is not made yet: {e.message}")
                time.sleep(POLL)
        bell.ring(work.node.places)
        while pending := _pending(work, wanted, pair):
            work.waiting(f"{' and '.join(pending)} not running yet")
            time.sleep(POLL)


def _ours(work: Work) -> list[str]:
    """Names of the guests that this first boot makes; none where a node is replaced: then the pair has its own list."""
    if storage.recorded_sync(work.node.places) is not InitialSync.SKIP:
        return []
    return [guest.name for guest in work.node.cluster.guests if guest.home == work.node.me.name]


def _missing(work: Work, wanted: list[str]) -> list[str]:
    guests = registry(work.node.cluster.storage.volume_group)
    there = {guest.name for guest in guests if guest.definition.phase == "ready"}
    return [name for name in wanted if name not in there]


def _pending(work: Work, wanted: list[str], pair: Pair) -> list[str]:
    """Those that should run and neither run, here or where they were taken over, nor wait for room."""
    guests = registry(work.node.cluster.storage.volume_group)
    should = [g.name for g in guests if g.name in wanted and g.definition.wanted == "running"]
    domains, waiting = xl.domains(), held.read(work.node.places)
    absent = [name for name in should if running.here(name, domains) is None and name not in waiting]
    if not absent:
        return []
    try:
        peer = pair.peer()
        there = peer.domains() if peer is not None else ()
    except PeerError:
        return absent
    return [name for name in absent if running.here(name, there) is None]
