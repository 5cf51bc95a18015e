"""Two nodes, two cables, two BMCs, an administrator; a clock, and whoever writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from config.model import Fencing
from firstboot.plan.fencing import next_fencing_step
from firstboot.plan.replication import PROMOTABLE, InitialSync, next_storage_step
from firstboot.plan.replication import Next as StorageNext
from firstboot.probe.drbd import DrbdState
from tests.model.audit import Audit
from tests.model.clock import Clock
from tests.model.controller import Mode
from tests.model.flight import FencingRule
from tests.model.link import Link
from tests.model.node import Node

DELAY = float(Fencing().delay)
"""Seconds that the second node waits more, if the config says nothing."""


class StorageRule(Protocol):
    """firstboot.plan.replication.next_storage_step, or a mutant of it."""

    def __call__(
        self, state: DrbdState, sync: InitialSync, first: bool, *, peer: str, peer_off: bool = False
    ) -> StorageNext:
        """What the storage needs next."""
        ...


class World:
    """All of it.

    jitter: tenths that every duration takes its turn in. calm: nothing has happened yet that the second node's delay
    does not reckon with; strict: the delay must do even then. unit_lets_go: frozen I/O is let go by the unit once its
    flight is over, and by the handler's exit code. seen: landmarks, by which a test knows that schedules get
    anywhere.
    """

    def __init__(
        self,
        jitter: Sequence[int] = (0,),
        *,
        by_bmc: bool = True,
        fresh: bool = False,
        delays: tuple[float, float] = (0.0, DELAY),
        fencing_rule: FencingRule = next_fencing_step,
        storage_rule: StorageRule = next_storage_step,
        honest: bool = True,
        wise: bool = True,
        strict: bool = False,
        unit_lets_go: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.clock = Clock()
        self.by_bmc = by_bmc
        self.fencing_rule, self.storage_rule = fencing_rule, storage_rule
        self.honest, self.wise, self.strict = honest, wise, strict
        self.unit_lets_go = unit_lets_go
        self.calm, self.both_shot = True, False
        self.acknowledged = 0
        self.serving_alone: list[float | None] = [None, None]
        self._jitter, self._turn = [tenth / 10 for tenth in jitter], 0
        self._number, self._writes = 100, 0
        self._say = say
        self.nodes: list[Node] = []
        self.seen: set[str] = set()
        self._awaited = ""
        self.link = Link(self.clock, self.nodes, self.fraction, self.saw)
        self.audit = Audit(self)
        self.nodes += [Node(self, index, delays[index]) for index in (0, 1)]
        for node in self.nodes:
            node.formed = not fresh
            if not fresh:
                node.disk.consistent = node.disk.was_up_to_date = True
                node.disk.generations.current = self._number
            node.power = True
            node.start_up()

    def say(self, text: str) -> None:
        """For whoever reads a schedule."""
        if self._say:
            self._say(f"{self.clock.now:7.1f}  {text}")

    def saw(self, landmark: str) -> None:
        """Something worth knowing, or worth striking at, happens."""
        self.seen.add(landmark)
        if landmark == self._awaited:
            self.clock.halted = True

    def fraction(self) -> float:
        """0 to 1: how long the next thing takes, between its least and its most."""
        self._turn = (self._turn + 1) % len(self._jitter)
        return self._jitter[self._turn]

    def number(self) -> int:
        """Of a new generation."""
        self._number += 1
        return self._number

    def moved(self) -> None:
        """Somebody has come or gone, or a cable has."""
        self.link.reconsider()
        for node in self.nodes:
            node.heartbeat.reconsider()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_until(self.clock.now + seconds, self.audit)

    def run_to(self, landmark: str, seconds: float) -> None:
        """Let time pass until that happens, but not more than so much."""
        self._awaited = landmark
        self.run(seconds)
        self._awaited = ""

    # Writers

    def write(self, node: Node) -> None:
        """One write on a Primary that takes it; acknowledged where DRBD would."""
        drbd = node.drbd
        if not drbd.serves or not node.answers:
            self.serving_alone[node.index] = None
            return
        if drbd.linked:
            self.serving_alone[node.index] = None
            if not drbd.pending:
                self._replicate(node)
            return
        if self.serving_alone[node.index] is None:
            self.serving_alone[node.index] = self.clock.now
        bit = self._next_write()
        node.disk.content |= bit
        node.disk.unsynced |= bit
        self.acknowledged |= bit

    def _replicate(self, node: Node) -> None:
        bit = self._next_write()
        node.disk.content |= bit
        if self._transmit(node, bit) and self.link.reaches():
            self.acknowledged |= bit
        else:
            node.drbd.pending |= bit

    def write_in_flight(self, node: Node) -> int:
        """A write that dom0 hangs with: the peer may have it already, its own disk has not."""
        if not node.drbd.serves:
            return 0
        bit = self._next_write()
        if node.drbd.linked:
            node.drbd.pending |= bit
            self._transmit(node, bit)
        return bit

    def _transmit(self, node: Node, bit: int) -> bool:
        session, peer = self.link.session, node.peer
        if session is None or not all(session.alive) or not self.link.way[node.index] or not peer.answers:
            return False
        peer.disk.content |= bit
        return True

    def _next_write(self) -> int:
        self._writes += 1
        return 1 << self._writes

    # Faults

    def cut(self, *, ways: tuple[int, ...] = (), guest: bool = False) -> None:
        """Take cables out: directions of the cluster link, the guest network."""
        for way in ways:
            self.link.way[way] = False
        if guest:
            self.link.guest = self.calm = False
        self.moved()

    def mend(self, *, cluster: bool = False, guest: bool = False) -> None:
        """Put cables back."""
        if cluster:
            self.link.way[:] = [True, True]
        self.link.guest = self.link.guest or guest
        self.moved()

    def set_bmc(self, index: int, mode: Mode) -> None:
        """From now on that node's BMC behaves like this."""
        self.nodes[index].bmc.mode = mode
        self.calm = self.calm and mode is Mode.OK

    def kill(self, index: int, *, mains: bool = False) -> None:
        """Power cut; with the mains its BMC goes too."""
        node = self.nodes[index]
        if mains:
            node.bmc.powered = self.calm = False
        if node.power:
            node.cut_power("power cut")

    def power_on(self, index: int) -> None:
        """By hand, mains included."""
        self.nodes[index].bmc.powered = True
        self.nodes[index].switch_on()

    def hang(self, index: int) -> None:
        """dom0 stands still."""
        self.calm = False
        self.nodes[index].hang()

    def stop_heartbeat(self, index: int) -> None:
        """The daemon dies."""
        if self.nodes[index].answers:
            self.calm = False
            self.nodes[index].heartbeat.stop()

    def takes_word(self, node: Node) -> bool:
        """Whether firstboot.fencing.confirm would not refuse the administrator's word."""
        if not node.answers or node.hears_peer() or node.view().disk not in PROMOTABLE:
            return False
        if node.drbd.serves and node.progress not in {"pursuing", "holding"}:
            return False
        return not (self.by_bmc and node.peer.power and node.peer.bmc.reachable)

    def confirm(self, index: int) -> None:
        """`xenpair fence --confirm-peer-is-off` on that node.

        An honest person has looked at the peer; a wise one does not choose the node whose data is the older.
        """
        node = self.nodes[index]
        drbd = node.drbd
        if not self.takes_word(node):
            return
        if self.honest and node.peer.power:
            return
        if self.wise and not drbd.frozen and self.acknowledged & ~node.disk.content:
            return
        self.say(f"{node.name}: the administrator confirms that the peer is off")
        node.confirmation = self.clock.now
        if drbd.suspended:
            node.start_unit()
        node.changed()

    # The end

    def heal(self) -> None:
        """Every fault is mended, every node has power."""
        self.mend(cluster=True, guest=True)
        for node in self.nodes:
            node.bmc.mode, node.bmc.powered = Mode.OK, True
            node.wake()
            self.power_on(node.index)
            if node.storage == "done" and not node.heartbeat.running and not node.stopping:
                node.heartbeat.start()

    @property
    def healthy(self) -> bool:
        """Connected, Primary and UpToDate on both sides, and nothing under way that would change that."""
        return all(
            node.drbd.connection == "Connected"
            and node.drbd.whole
            and node.drbd.primary
            and node.drbd.peer
            and not node.drbd.suspended
            and node.storage == "done"
            and not node.locked
            and not node.unit_runs
            and not node.bmc.orders
            for node in self.nodes
        )

    def describe(self) -> str:
        """Both nodes in a line."""
        return "; ".join(node.describe() for node in self.nodes)
