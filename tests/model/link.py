"""The two cables, and the one DRBD connection: how it comes about, how its loss is noticed, and the resync over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model.clock import Clock
from tests.model.disk import (
    CONSISTENT,
    INCONSISTENT,
    JUST_CREATED,
    SPLIT,
    SYNC_OFFSET,
    UNRELATED,
    UP_TO_DATE,
    Generations,
    Side,
    compare,
)
from tests.model.drbd import Drbd
from tests.model.node import Node

NOTICE = 10.0
"""ping-int 7 and ping-timeout 3: the seconds in which the loss of the peer is noticed, by each side for itself."""

RECONNECT = 8.0
"""Seconds until two sides that can reach each other again have a connection, at most."""

HANDSHAKE = 0.2

RESYNC_LAG = 0.3
"""Seconds from the moment in which a resync's target knows that it has all, to the one in which its source knows."""


@dataclass(eq=False)
class Session:
    """One connection. alive: which side still holds it; sent: what each side said of its generations."""

    alive: list[bool] = field(default_factory=lambda: [True, True])
    sent: list[Generations] = field(default_factory=list)
    broken: bool = False


class Link:
    """Both cables between the nodes.

    way[i]: the cluster link carries what node i sends. guest: the guest network, which the BMCs are on too.
    """

    def __init__(
        self,
        clock: Clock,
        nodes: list[Node],
        fraction: Callable[[], float],
        saw: Callable[[str], None],
    ) -> None:
        self.clock, self.nodes, self._fraction, self._saw = clock, nodes, fraction, saw
        self.way = [True, True]
        self.guest = True
        self.session: Session | None = None
        self.splits = 0
        self._dialling = False

    def reaches(self) -> bool:
        """Whether DRBD's packets and their answers get through right now."""
        return all(self.way) and all(node.answers and node.drbd.connection != "Unconfigured" for node in self.nodes)

    def talks(self) -> bool:
        """Whether they do so over a connection that both sides hold."""
        return self.session is not None and all(self.session.alive) and self.reaches()

    def hears(self, index: int) -> bool:
        """Whether heartbeat on that node hears the other one, on either link."""
        other = self.nodes[1 - index]
        return other.answers and other.heartbeat.running and (self.way[1 - index] or self.guest)

    def reconsider(self) -> None:
        """After anything that may have broken or mended the way between the two."""
        session, reaches = self.session, self.reaches()
        if session is not None:
            if reaches and session.broken and all(session.alive):
                session.broken = False
                self._deliver()
                for node in self.nodes:
                    node.drbd.gate.open()
            elif reaches and session.alive[0] != session.alive[1]:
                self._notice(session, session.alive.index(True), 0.1)
            elif not reaches and not session.broken:
                session.broken = True
                for index in (0, 1):
                    if session.alive[index]:
                        self._notice(session, index, NOTICE * self._fraction())
            return
        if reaches and not self._dialling and all(node.drbd.connection == "WFConnection" for node in self.nodes):
            self._dialling = True
            self.clock.after(1 + (RECONNECT - 1) * self._fraction(), self._dial)

    def drop(self, index: int) -> None:
        """That side holds no connection any more: it has lost its memory, or has disconnected."""
        session = self.session
        if session is None or not session.alive[index]:
            return
        session.alive[index] = False
        if not any(session.alive):
            self.session = None

    def _deliver(self) -> None:
        """What TCP still held gets through."""
        for node, other in zip(self.nodes, reversed(self.nodes), strict=True):
            if node.drbd.linked and node.drbd.pending:
                other.disk.content |= node.drbd.pending
                node.acknowledged(node.drbd.pending)
                node.drbd.pending = 0

    def _notice(self, session: Session, index: int, seconds: float) -> None:
        def notice() -> None:
            gone = not self.reaches() or not session.alive[1 - index]
            if self.session is session and session.alive[index] and gone:
                self._lose(index)

        self.clock.after(seconds, notice, self.nodes[index])

    def _lose(self, index: int, then: str = "WFConnection") -> None:
        self.drop(index)
        self.nodes[index].drbd.lose(then)
        self.reconsider()

    def _dial(self) -> None:
        self._dialling = False
        if self.session is not None:
            return
        if not self.reaches() or any(node.drbd.connection != "WFConnection" for node in self.nodes):
            self.reconsider()
            return
        self._saw("a handshake")
        self.session = session = Session()
        for node in self.nodes:
            node.drbd.connection = "WFReportParams"
            node.drbd.gate.open()
        self.clock.after(HANDSHAKE, lambda: self._shake_hands(session))

    def _shake_hands(self, session: Session) -> None:
        if self.session is not session or not all(session.alive):
            return
        if session.broken:
            self.clock.after(1, lambda: self._shake_hands(session))
            return
        blocked = next((node for node in self.nodes if node.drbd.mutex), None)
        if blocked is not None:
            self._saw("a handshake waits for a handler")
            # Whoever is asking its handler for the right to be Primary lets no handshake through meanwhile.
            blocked.drbd.gate.wait(lambda: self.clock.after(0, lambda: self._shake_hands(session)))
            return
        sides = [node.drbd for node in self.nodes]
        sent = [side.side() for side in sides]
        verdicts = [self._verdict(sides[i], compare(_own(sides[i]), sent[1 - i]), sides[1 - i]) for i in (0, 1)]
        if None in verdicts:
            for i in (0, 1):
                self._lose(i, "StandAlone" if verdicts[i] is None else "WFConnection")
            return
        for i in (0, 1):
            me, peer = sides[i], sides[1 - i]
            if verdicts[i] == "Connected" and me.frozen and me.fork_due and peer.state == CONSISTENT:
                self._saw("a peer that is only Consistent")
                # "Aborting Connect, can not thaw IO with an only Consistent peer"
                me.complete_pending()
                me.fork()
                me.fork_due = False
                self._lose(i)
                self._lose(1 - i)
                return
        session.sent = [side.generations for side in sent]
        self._connect(session, [verdict or "" for verdict in verdicts])

    def _verdict(self, me: Drbd, order: int, peer: Drbd) -> str | None:
        """drbd_sync_handshake: what this side becomes, None where it gives up and stands alone."""
        if order == -UNRELATED:
            return None
        if INCONSISTENT in {me.state, peer.state} and me.state != peer.state:
            order = 1 if me.state > INCONSISTENT else -1
        if abs(order) == SPLIT:
            self.splits += 1
            order = _after_split(order, me, peer)
        if abs(order) == SPLIT:
            return None
        if order > 0:
            return "SyncSource" if me.state > INCONSISTENT else None
        if order < 0:
            return None if me.primary and me.state >= CONSISTENT else "SyncTarget"
        return "Connected"

    def _connect(self, session: Session, verdicts: list[str]) -> None:
        was = [node.drbd.state for node in self.nodes]
        for i in (0, 1):
            me, peer = self.nodes[i].drbd, self.nodes[1 - i].drbd
            me.connection, me.peer = verdicts[i], peer.primary
            me.connects += 1
            self.nodes[i].apart = self.clock.now
            source, target = verdicts[i] == "SyncSource", verdicts[i] == "SyncTarget"
            me.state = INCONSISTENT if target else UP_TO_DATE if source or was[i] > INCONSISTENT else was[i]
            theirs = was[1 - i]
            me.peer_state = INCONSISTENT if source else UP_TO_DATE if target or theirs > INCONSISTENT else theirs
        if "SyncSource" in verdicts:
            self._begin_resync(session, verdicts.index("SyncSource"))
        for node in self.nodes:
            if node.drbd.frozen:
                node.drbd.frozen = node.drbd.fork_due = False
            if UP_TO_DATE in {node.drbd.state, node.drbd.peer_state}:
                node.drbd.starved = False
        self._deliver()
        for node in self.nodes:
            node.drbd.store()

    def _begin_resync(self, session: Session, source: int) -> None:
        giver, taker = self.nodes[source].drbd.disk.generations, self.nodes[1 - source].drbd.disk.generations
        name = giver.bitmap + SYNC_OFFSET if giver.bitmap not in {0, JUST_CREATED} else self.nodes[0].new_generation()
        giver.set_bitmap(name)
        taker.current, taker.bitmap = name, 0
        self.nodes[source].resync_begins()
        self._saw("a resync's beginning")
        self.clock.after(1 + 40 * self._fraction(), lambda: self._finish_target(session, source))

    def _finish_target(self, session: Session, source: int) -> None:
        if self.session is not session or not all(session.alive):
            return
        if session.broken:
            self.clock.after(1, lambda: self._finish_target(session, source))
            return
        target = self.nodes[1 - source].drbd
        sent, mine = session.sent[source], target.disk.generations
        name = mine.current
        mine.current, mine.bitmap, mine.old, mine.older = sent.current, 0, name, sent.bitmap or sent.old
        target.disk.content = self.nodes[source].disk.content
        target.disk.unsynced = 0
        target.state, target.peer_state, target.connection = UP_TO_DATE, UP_TO_DATE, "Connected"
        target.store()
        self._saw("a resync's end")
        self.clock.after(RESYNC_LAG, lambda: self._finish_source(session, source))

    def _finish_source(self, session: Session, source: int) -> None:
        if self.session is not session or not all(session.alive):
            return
        if session.broken:
            self.clock.after(1, lambda: self._finish_source(session, source))
            return
        giver = self.nodes[source].drbd
        giver.disk.generations.set_bitmap(0)
        giver.disk.unsynced = 0
        giver.connection, giver.peer_state = "Connected", UP_TO_DATE
        giver.store()

    def declare_equal(self, index: int) -> None:
        """One fresh side says so, and the other accepts if it hears it."""
        me, peer = self.nodes[index].drbd, self.nodes[1 - index].drbd
        heard = me.declare_equal() and self.reaches() and peer.connection == "Connected"
        if heard and peer.disk.generations.current == JUST_CREATED:
            peer.disk.generations = me.disk.generations.copy()
            peer.state = peer.peer_state = UP_TO_DATE
            peer.store()

    def tell_role(self, index: int) -> None:
        """The other side learns of a change of role."""
        peer = self.nodes[1 - index].drbd
        if peer.linked and self.reaches():
            peer.peer = self.nodes[index].drbd.primary
            peer.store()


def _own(side: Drbd) -> Side:
    return Side(side.disk.generations, side.primary, side.crashed, side.host.index == 0)


def _after_split(order: int, me: Drbd, peer: Drbd) -> int:
    """after-sb-0pri discard-zero-changes, 1pri consensus, 2pri disconnect; never for -SPLIT (no always-asbp)."""
    if order == -SPLIT or (me.primary and peer.primary):
        return -SPLIT
    mine, theirs = me.disk.unsynced, peer.disk.unsynced
    if mine and theirs:
        return -SPLIT
    winner = (-1 if me.host.index == 0 else 1) if not (mine or theirs) else 1 if not theirs else -1
    if (me.primary and winner < 0) or (peer.primary and winner > 0):
        return -SPLIT
    return winner
