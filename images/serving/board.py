"""Who is who, how far each one is, and what each one may have. Knows nothing of HTTP, and starts nothing."""

from __future__ import annotations

import hmac
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from config.machine import Machine, expected
from config.model import Node
from images.serving.errors import RefusalError
from images.serving.offer import Offer, claims, recognised
from images.serving.record import Record, Stage
from images.serving.window import Window, minutes
from images.serving.wire import Report

STRANGERS = 64
"""Machines that no config names, of which the last heard ones are kept: anybody can invent more of them."""
LINES = 100
"""Lines of what happened that are kept for the page."""
REPORTS_A_SECOND, REPORTS_AT_ONCE = 5.0, 40.0
"""What one machine may report: the installer does so every two seconds, and at each step."""
_STRANGER = ""
"""Strangers share one allowance."""


@dataclass(frozen=True)
class Place:
    """A node of a cluster."""

    offer: Offer
    node: Node

    def __str__(self) -> str:
        return f"{self.offer.name}/{self.node.name}"


@dataclass(frozen=True)
class Welcome:
    """The answer to the hello of a machine that is known."""

    place: Place
    ticket: str


@dataclass
class _Allowance:
    """A bucket that fills by itself, and from which each report takes one."""

    left: float = REPORTS_AT_ONCE
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.left = min(REPORTS_AT_ONCE, self.left + (now - self.at) * REPORTS_A_SECOND)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class Board:
    """All nodes of all clusters, and the strangers. changed is called after each change, tell with a line for people.

    key: what tickets are made with. The same key gives the same tickets, so that a server that is started again knows
    those of the one before it.
    """

    offers: Sequence[Offer]
    window: Window
    key: bytes = field(repr=False)
    clock: Callable[[], float] = time.time
    tell: Callable[[str], None] = lambda _: None
    changed: Callable[[], None] = lambda: None
    lines: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=LINES))
    strangers: list[Record] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    _allowances: dict[str, _Allowance] = field(default_factory=dict)

    def places(self) -> Iterator[Place]:
        """All nodes, cluster by cluster, in their configs' order."""
        return (Place(offer, node) for offer in self.offers for node in offer.cluster.nodes)

    def record(self, place: Place) -> Record:
        """What is known of a node."""
        return self.records.get(str(place), Record())

    def note(self, text: str) -> None:
        """Something that happened, for the terminal and for the page."""
        self.lines.append((self.clock(), text))
        self.tell(text)
        self.changed()

    def ticket(self, place: Place) -> str:
        """By which the node shows later that it is the one that said hello."""
        return hmac.new(self.key, str(place).encode(), "sha256").hexdigest()

    def _holder(self, ticket: str) -> Place:
        for place in self.places():
            if hmac.compare_digest(self.ticket(place).encode(), ticket.encode()):
                return place
        raise RefusalError(403, "this ticket was not given out by this server", hint="say hello again")

    # What machines ask for, in the order in which they do.

    def boot(self, machine: Machine) -> str:
        """A machine's iPXE asks what to boot: the reason to boot its own disk, or an empty text for the installer."""
        place = self._booting(machine)
        if place is None:
            if not self.window.is_open:
                return "the window of this installation server has closed"
            if not self._stranger(machine, lambda known: known.seen(self.clock())):
                self.note(f"a machine that no config names asks for something to boot; seen: {machine}")
            return ""
        record = self.record(place)
        if record.is_settled:
            self.note(f"{place}: boots from its disk")
            return f"{place} was installed; to install it again, allow it on the page of `invoke serve`"
        if not self.window.is_open:
            self.note(f"{place}: asks to be installed after the window has closed; boots from its disk")
            return "the window of this installation server has closed; start `invoke serve` again"
        self._move(place, record.seen(self.clock()))
        return ""

    def hello(self, machine: Machine) -> Welcome:
        """A machine's installer asks what it is. Raises RefusalError for nobody, for two, and after the window."""
        try:
            place = Place(*recognised(self.offers, machine))
        except RefusalError as refusal:
            self._admit(_STRANGER)
            text = str(refusal)
            self._stranger(machine, lambda known: known.greeted(machine, Stage.SEEN, text, self.clock()))
            self.note(refusal.message)
            raise
        self.strangers = [known for known in self.strangers if not _overlap(known, machine)]
        record = self.record(place)
        if not self.window.is_open and not record.is_under_way(self.clock()):
            raise self._too_late()
        self._move(place, record.greeted(machine, Stage.CHOSEN, "the config knows this machine", self.clock()))
        return Welcome(place, self.ticket(place))

    def file_holder(self, ticket: str) -> Offer:
        """Whose files a ticket opens. Raises RefusalError for one that is none."""
        return self._holder(ticket).offer

    def hand_out(self, ticket: str, asker: str = "") -> str:
        """The secrets' text, once for each node, and again to the same asker if it has one. Raises RefusalError."""
        place = self._holder(ticket)
        record = self.record(place)
        if not self.window.is_open:
            raise self._too_late()
        if record.is_settled and not record.may_ask_again(asker):
            when = time.strftime("at %H:%M:%S", time.localtime(record.given)) if record.given else "before"
            self.note(f"{place}: asks for its secrets again, and is refused: they were handed out {when}")
            raise RefusalError(
                409,
                f"the secrets of {place} were handed out {when}, and are handed out once",
                hint=f'if that was this machine, press "Allow again" at {place} on the page of `invoke serve`, and '
                "try again; if not, another machine has them now: look at what it said of itself on the page",
            )
        self._move(place, record.handed(asker, self.clock()))
        self.note(f"{place}: was given its cluster's secrets")
        return place.offer.secrets

    def _too_late(self) -> RefusalError:
        message = "the window of this installation server has closed: no secrets are handed out any more"
        return RefusalError(410, message, hint="start `invoke serve` again, then try again")

    def report(self, report: Report) -> None:
        """A machine says what it is at. Raises RefusalError for one that nobody knows, or that says too much."""
        if report.ticket:
            place = self._holder(report.ticket)
            self._admit(str(place))
            self._told(place, report)
            return
        machine = Machine({"reported": report.machine})
        greeted = [place for place in self.places() if _overlap(self.record(place), machine)]
        known = [stranger for stranger in self.strangers if stranger.machine and _overlap(stranger, machine)]
        if not greeted and not known:
            raise RefusalError(403, f"no machine with {report.machine} has said hello here")
        self._admit(_STRANGER)
        if known:
            self._stranger(machine, lambda stranger: replace(stranger.told(report, self.clock()), stage=Stage.SEEN))
        elif report.phase == "firstboot" or report.step == "boot":
            raise RefusalError(403, "that a machine is installed is believed with its ticket only")
        else:
            self._told(greeted[0], report)

    def allow(self, cluster: str, node: str) -> None:
        """Let a node be installed, and have its secrets, once more. Raises RefusalError for one that is not there."""
        for place in self.places():
            if (place.offer.name, place.node.name) == (cluster, node):
                self._move(place, self.record(place).allowed_again())
                self.note(f"{place}: may be installed once more")
                return
        raise RefusalError(404, f"there is no node {cluster}/{node}")

    def under_way(self) -> list[Place]:
        """The nodes that can still be expected to get on."""
        return [place for place in self.places() if self.record(place).is_under_way(self.clock())]

    # What is remembered.

    def _admit(self, sender: str) -> None:
        allowance = self._allowances.setdefault(sender, _Allowance(at=self.clock()))
        if not allowance.take(self.clock()):
            raise RefusalError(429, f"more than {REPORTS_A_SECOND:.0f} reports a second")

    def _booting(self, machine: Machine) -> Place | None:
        """The node whose iPXE this is. It knows of one card only, so what the config and the installer say counts."""
        for place in self.places():
            if _overlap(Record(machine=expected(place.node)), machine) or _overlap(self.record(place), machine):
                return place
        found = claims(self.offers, machine)
        return Place(*found[0]) if len(found) == 1 else None

    def _told(self, place: Place, report: Report) -> None:
        before = self.record(place)
        after = before.told(report, self.clock())
        self._move(place, after)
        news = (before.step, before.state, before.text) != (after.step, after.state, after.text)
        if news and after.step and after.percent is None:
            self.note(": ".join(part for part in (str(place), after.step, after.state, after.text) if part))

    def _move(self, place: Place, after: Record) -> None:
        before = self.record(place)
        self.records[str(place)] = after
        if before.stage is not after.stage:
            self.note(f"{place}: {after.stage}")
        self.changed()

    def _stranger(self, machine: Machine, change: Callable[[Record], Record]) -> bool:
        """Change what is known of a stranger, which becomes the last heard one. Whether it was known before."""
        same = [known for known in self.strangers if _overlap(known, machine)]
        others = [known for known in self.strangers if not _overlap(known, machine)]
        before = same[-1] if same else Record(machine=machine)
        self.strangers = [*others[-STRANGERS + 1 :], change(before)]
        self.changed()
        return bool(same)

    def summary(self) -> str:
        """Of the window, for the terminal."""
        if self.window.is_open:
            return f"secrets are handed out for {minutes(self.window.left)}"
        names = ", ".join(f"{place} ({self.record(place).stage})" for place in self.under_way())
        return f"the window has closed; still under way: {names}" if names else "the window has closed"


def _overlap(record: Record, machine: Machine) -> bool:
    """Whether both are the same machine: they have a card in common. Serial and UUID are the same on many boards."""
    return record.machine is not None and not set(record.machine.nics.values()).isdisjoint(machine.nics.values())
