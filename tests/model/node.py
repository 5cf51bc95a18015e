"""A server: power, dom0, what lies below /run, and the programs of firstboot that run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from firstboot.fencing import HANDLER_LIMIT, POLL, RETRY, SWITCH_ON_LIMIT, State, frozen, hears_peer
from firstboot.plan.fencing import Requester, Terms
from firstboot.plan.replication import DeclareEqual, InitialSync, Promote, Up
from firstboot.probe.drbd import DrbdState
from firstboot.storage import PROMOTION_LIMIT
from tests.model.clock import Action, Gate, Process
from tests.model.controller import Controller
from tests.model.disk import OUTDATED, Disk
from tests.model.drbd import FENCED, Drbd
from tests.model.flight import Call, Pilot
from tests.model.heartbeat import Heartbeat

if TYPE_CHECKING:
    from tests.model.world import World

NAMES = ("xen1", "xen2")

NEVER = -1e9

StorageUnit = Literal["off", "running", "promoting", "done", "failed"]


class Node:
    """One of the two. life counts its boots; confirmation and proof are files below /run, gone at a boot.

    lifeless: when it last had no memory of anything (it may be so now: see power). apart: since when DRBD here has not
    agreed on anything with the peer.
    """

    def __init__(self, world: World, index: int, delay: float) -> None:
        self.world, self.clock, self.index = world, world.clock, index
        self.terms = Terms(NAMES[1 - index], world.by_bmc, delay)
        self.life = 0
        self.power, self.up, self.hung = False, False, False
        self.deferred: list[Action] = []
        self.disk = Disk()
        self.in_flight = 0
        self.died_of = ""
        self.lifeless = NEVER
        self.apart = NEVER
        self.formed = True
        self.drbd = Drbd(self, self.disk)
        self.bmc = Controller(world.clock, self, world.fraction, lambda: world.link.guest)
        self._clear_run()

    def _clear_run(self) -> None:
        self.confirmation: float | None = None
        self.proof: float | None = None
        self.struck_at: float | None = None
        self.progress: State | None = None
        self.storage: StorageUnit = "off"
        self.unit_runs = False
        self.locked = False
        self.lock, self.change = Gate(), Gate()
        self._looking = False
        self.stopping = False
        self.heartbeat = Heartbeat(self)

    @property
    def peer(self) -> Node:
        """The other one."""
        return self.world.nodes[1 - self.index]

    @property
    def name(self) -> str:
        """As the config calls it."""
        return NAMES[self.index]

    @property
    def answers(self) -> bool:
        """Whether its kernel runs."""
        return self.up and not self.hung

    def cut_power(self, why: str) -> None:
        """The end of this life."""
        self.world.say(f"{self.name} loses its power: {why}")
        self.power = False
        self.saw(why)
        self._die(why)
        self.world.audit.shot()

    def describe(self) -> str:
        """What it is, for people."""
        if not self.up:
            return f"{self.name} {'boots' if self.power else f'off ({self.died_of})'}"
        drbd = self.drbd.view()
        frozen = " frozen" if drbd.suspended else ""
        disks = f"{drbd.disk}/{drbd.peer_disk}"
        hung = "hangs " if self.hung else ""
        return f"{self.name} {hung}{drbd.connection} {drbd.role}{frozen} {disks} storage {self.storage}"

    def _die(self, why: str) -> None:
        self.life += 1
        self.up = self.hung = False
        self.deferred.clear()
        self.died_of, self.lifeless = why, self.clock.now
        self.in_flight = 0
        self.drbd.unplug()
        self._clear_run()
        self.world.link.drop(self.index)
        self.world.moved()

    def switch_on(self) -> None:
        """Power on, unless it is."""
        if not self.power:
            self.power, self.lifeless = True, self.clock.now
            self._boot()

    def reset(self) -> None:
        """dom0 panics and boots again; the power stays."""
        if self.power:
            self._die("reset")
            self._boot()

    def _boot(self) -> None:
        self.world.say(f"{self.name} boots")
        self.saw("a boot")
        self.clock.after(40 + 50 * self.world.fraction(), self.start_up, self)

    def start_up(self) -> None:
        """The end of a boot: systemd starts the storage unit."""
        self.up = True
        self.apart = self.clock.now
        self.storage = "running"
        self.drbd.attach()
        self.world.moved()

    def hang(self) -> None:
        """dom0 stands still, with a write on its way to its own disk."""
        if self.answers:
            self.hung = True
            self.in_flight = self.world.write_in_flight(self)
            self.world.moved()

    def wake(self) -> None:
        """It goes on where it stood; nobody told it that time has passed."""
        if self.hung:
            self.hung = False
            if self.in_flight:
                self.saw("a write that lands after a hang")
            self.disk.content |= self.in_flight
            self.in_flight = 0
            self.world.moved()
            deferred, self.deferred = self.deferred, []
            for action in deferred:
                self.clock.after(0, action, self)

    def shut_down(self) -> None:
        """In good order: heartbeat says goodbye, then storage.take_down, then the power."""
        if not self.answers or self.stopping:
            return
        self.stopping = True
        self.heartbeat.say_goodbye()
        drbd = self.drbd
        if not (drbd.suspended or drbd.mutex or (drbd.primary and drbd.linked and not self.reaches_peer())):
            self._take_down()
        self.world.moved()
        self.clock.after(5, lambda: self.cut_power("shutdown"), self)

    def _take_down(self) -> None:
        drbd, peer = self.drbd, self.peer.drbd
        drbd.primary = False
        self.storage = "off"
        linked = drbd.linked and self.reaches_peer() and peer.linked
        outdates = linked and peer.primary
        if outdates:
            drbd.state = min(drbd.state, OUTDATED)
        drbd.complete_pending()
        drbd.store()
        self.world.link.drop(self.index)
        drbd.unplug()
        if linked:
            self.world.link.drop(1 - self.index)
            peer.peer_left(outdated=outdates)

    # What DRBD wants of its host.

    def saw(self, landmark: str) -> None:
        """See World.seen."""
        self.world.saw(landmark)

    def changed(self) -> None:
        """Something that the programs here look at is another thing now."""
        self.change.open()
        if self.storage == "running" and not self._looking:
            self._looking = True
            self.clock.after(POLL / 2, self._look, self)

    def reaches_peer(self) -> bool:
        """See Link.talks."""
        return self.world.link.talks()

    def new_generation(self) -> int:
        """See World.number."""
        return self.world.number()

    def acknowledged(self, writes: int) -> None:
        """See World.acknowledged."""
        self.world.acknowledged |= writes

    def resync_begins(self) -> None:
        """The handler removes both files."""
        self.confirmation = self.proof = None

    def promoted(self, *, alone: bool) -> None:
        """The audit wants to know, and the peer."""
        self.saw("a promotion alone" if alone else "a promotion by consent")
        self.world.say(f"{self.name} is Primary{' alone' if alone else ''}")
        if alone:
            self.world.audit.lone_promotion(self)
        self.world.link.tell_role(self.index)

    # firstboot.storage.bring_up

    def _look(self) -> None:
        self._looking = False
        if self.storage != "running":
            return
        state = self.drbd.view()
        if hears_peer(state):
            self.confirmation = self.proof = None
        sync = InitialSync.AS_RECORDED if self.formed else InitialSync.SKIP
        confirmed = self.confirmation is not None
        match self.world.storage_rule(state, sync, self.index == 0, peer=NAMES[1 - self.index], peer_off=confirmed):
            case Up():
                self._storage_done()
            case Promote():
                self.storage = "promoting"
                self.saw("a question for the promotion")
                self.clock.run(self._promote(), self)
            case DeclareEqual():
                self.world.link.declare_equal(self.index)
                self.changed()

    def _promote(self) -> Process:
        begun = self.clock.now
        done = yield from self.drbd.promote()
        if self.storage != "promoting":
            return
        if self.clock.now - begun > PROMOTION_LIMIT:
            # `drbdadm primary` was killed, and that is the end of the storage unit.
            self.world.say(f"{self.name}: the storage unit failed")
            self.storage = "failed"
            return
        if not done:
            yield POLL
        self.storage = "running"
        self.changed()

    def _storage_done(self) -> None:
        self.storage = "done"
        self.formed = True
        self.heartbeat.start()

    # firstboot.command._fence_peer, firstboot.fencing

    def now(self) -> float:
        """Of the clock that nobody sets."""
        return self.clock.now

    def view(self) -> DrbdState:
        """As /proc/drbd shows it."""
        return self.drbd.view()

    def hears_peer(self) -> bool:
        """As fencing asks it."""
        return hears_peer(self.drbd.view())

    def handler(self) -> Process:
        """`xenpair fence-peer` as DRBD's handler."""
        yield 0.2 + 0.4 * self.world.fraction()
        self.saw("a handler that begins")
        self.start_unit()
        if (yield from self.fence("drbd", HANDLER_LIMIT)):
            return FENCED
        self.start_unit()
        return 1

    def handler_apart(self) -> None:
        """The same, asynchronously; DRBD hears of the result by what it was asked for."""

        def process() -> Process:
            connects = self.drbd.connects
            code = yield from self.handler()
            yield from self.drbd.fence_peer_said(code, connects)

        self.clock.run(process(), self)

    def start_unit(self) -> None:
        """`systemctl start --no-block xenpair-fencing.service`."""

        def process() -> Process:
            yield 0.3 + 2.7 * self.world.fraction()
            proven = yield from self.fence("pursuit", None)
            if proven and self.world.unit_lets_go and frozen(self.view()):
                yield from self.drbd.resume_io()
            self.unit_runs = False

        if not self.unit_runs:
            self.unit_runs = True
            self.clock.run(process(), self)

    def fence(self, requester: Requester, limit: float | None) -> Process:
        """firstboot.fencing.fence(), with its lock."""
        begun = self.clock.now
        while self.locked:
            yield self.lock
        self.locked = True
        steps = Pilot(self, requester, self.terms, self.world.fencing_rule).fly(begun, limit)
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                proven = bool(end.value)
                self.saw("a proof" if proven else "a flight without proof")
                break
            answer = None
            if step is Call.ASK:
                answer = yield from self.peer.bmc.ask()
            elif step is Call.ORDER:
                self.world.say(f"{self.name} orders its peer off ({requester})")
                answer = yield from self.peer.bmc.order_off()
                self.saw("an order to switch off")
            elif step is Call.LET_GO:
                if not self.world.unit_lets_go:
                    yield from self.drbd.resume_io()
            elif step.idle:
                yield from self._idle(begun, limit)
            else:
                yield step.seconds
        self.locked = False
        self.lock.open()
        return proven

    def _idle(self, begun: float, limit: float | None) -> Process:
        """Polling, without the polls that would see nothing new."""
        if limit is not None:
            self.clock.after(max(0.0, begun + limit - self.clock.now), self.change.open, self)
        yield self.change
        yield POLL / 2

    def switch_on_later(self) -> None:
        """`xenpair switch-on-peer`."""
        self.saw("a peer that is to be switched on again")

        def process() -> Process:
            begun = self.clock.now
            while frozen(self.view()) and self.clock.now - begun < SWITCH_ON_LIMIT / 2:
                yield POLL
            while True:
                power = None
                if (yield from self.peer.bmc.order_on()):
                    power = yield from self.peer.bmc.ask()
                if power == "on" or (power is None and self.clock.now - begun > SWITCH_ON_LIMIT):
                    return
                yield RETRY

        self.clock.run(process(), self)
