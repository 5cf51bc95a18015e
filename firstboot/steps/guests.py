"""The config's guests: made once, by the node that each is at home on, and started by the supervisor."""

from __future__ import annotations

import time
from typing import ClassVar

from config.door import run
from firstboot import storage
from firstboot.brief import Brief
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
        """Those at home here are there, and run, or wait for room or by a person's word."""
        if run(["systemctl", "is-active", "--quiet", "xenpair-guests.service"], check=False).returncode != 0:
            return False
        wanted = _ours(work)
        return not wanted or not (_missing(work, wanted) or _pending(work, wanted))

    def apply(self, work: Work) -> None:
        """Make what is missing, and wait until it runs."""
        run(["systemctl", "start", "--no-block", "xenpair-guests.service"])
        if wanted := _ours(work):
            _make(work, wanted)
        while not self.check(work):
            work.waiting("the guests' supervisor is not there yet")
            time.sleep(POLL)


def _make(work: Work, wanted: list[str]) -> None:
    brief = Brief.of(work.node.cluster, work.node.me)
    with Pair(brief, work.node.places) as pair:
        for name in _missing(work, wanted):
            guest = next(guest for guest in work.node.cluster.guests if guest.name == name)
            creation.create(pair, wishes.from_config(work.node.cluster, guest), work.waiting)
    bell.ring(work.node.places)
    while pending := _pending(work, wanted):
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


def _pending(work: Work, wanted: list[str]) -> list[str]:
    """Those that should run here and neither run nor are held."""
    guests = registry(work.node.cluster.storage.volume_group)
    should = [g.name for g in guests if g.name in wanted and g.definition.wanted == "running"]
    domains, waiting = xl.domains(), held.read(work.node.places)
    return [name for name in should if running.here(name, domains) is None and name not in waiting]
