"""One side of DRBD 8.4 with `fencing resource-and-stonith`, two primaries, protocol C: its state, and what changes it.

From linux/drivers/block/drbd: drbd_state.c (sanitize_state, after_state_ch, w_after_conn_state_ch), drbd_nl.c
(drbd_set_role, conn_try_outdate_peer, drbd_adm_attach, drbd_adm_resume_io), drbd_receiver.c (conn_disconnect).
"""

from __future__ import annotations

from typing import Protocol

from firstboot.probe.drbd import UNCONFIGURED, DrbdState
from tests.model.clock import Clock, Gate, Process
from tests.model.disk import (
    CONSISTENT,
    INCONSISTENT,
    OUTDATED,
    STATE_NAMES,
    UNKNOWN,
    UP_TO_DATE,
    Disk,
    Side,
)

FENCED = 7
"""Exit code of a fence-peer handler that stands for `stonith was successful`."""

METADATA_WRITE = 0.1
"""Seconds; of a disk that others write to as well."""

LINKED = ("Connected", "SyncSource", "SyncTarget")

_VIEWS: dict[tuple[object, ...], DrbdState] = {}


class Host(Protocol):
    """The node around it."""

    index: int
    clock: Clock
    life: int
    hung: bool

    def changed(self) -> None:
        """DRBD's state is another one now."""
        ...

    def saw(self, landmark: str) -> None:
        """This schedule has come here; see World.seen."""
        ...

    def handler(self) -> Process:
        """Run the fence-peer handler; the process returns its exit code."""
        ...

    def handler_apart(self) -> None:
        """The same in a thread of the kernel's own, which reports to fence_peer_said."""
        ...

    def reaches_peer(self) -> bool:
        """Whether the peer, over the connection that there is, answers right now."""
        ...

    def new_generation(self) -> int:
        """A number that no generation had before."""
        ...

    def acknowledged(self, writes: int) -> None:
        """These writes are done, as far as whoever wrote them can tell."""
        ...

    def promoted(self, *, alone: bool) -> None:
        """Became Primary just now."""
        ...

    def resync_begins(self) -> None:
        """The handler before-resync-source."""
        ...


class Drbd:
    """The kernel's part of a node. peer is whether the other side is Primary, None where that is not known."""

    def __init__(self, host: Host, disk: Disk) -> None:
        self.host, self.disk = host, disk
        self.gate = Gate()
        self.unplug()

    def unplug(self) -> None:
        """As after a reboot: nothing is configured, what was in flight is gone."""
        self.connection = "Unconfigured"
        self.primary = False
        self.peer: bool | None = None
        self.state, self.peer_state = UNKNOWN, UNKNOWN
        self.frozen = self.starved = self.fork_due = self.crashed = self.mutex = False
        self.connects = 0
        self.pending = 0

    def attach(self) -> None:
        """drbd_adm_attach, then connect."""
        disk = self.disk
        if not disk.consistent:
            self.state = INCONSISTENT
        else:
            self.state = CONSISTENT if disk.was_up_to_date else OUTDATED
        self.peer_state = OUTDATED if disk.peer_outdated else UNKNOWN
        if self.state == CONSISTENT and self.peer_state == OUTDATED:
            self.state = UP_TO_DATE
        self.crashed = disk.crashed or disk.primary
        self.connection = "WFConnection"
        self.store()

    @property
    def linked(self) -> bool:
        """At least Connected."""
        return self.connection in LINKED

    @property
    def whole(self) -> bool:
        """Both disks UpToDate, as far as is known here."""
        return self.state == self.peer_state == UP_TO_DATE

    @property
    def suspended(self) -> bool:
        """Nothing that is written gets done: for the lost peer's sake (susp_fen), or for want of data (susp_nod)."""
        return self.frozen or self.starved

    @property
    def serves(self) -> bool:
        """Primary, and what is written does not freeze."""
        return self.primary and not self.suspended

    def view(self) -> DrbdState:
        """As /proc/drbd shows it."""
        if self.connection == "Unconfigured":
            return UNCONFIGURED
        key = (self.connection, self.primary, self.peer, self.state, self.peer_state, self.suspended)
        view = _VIEWS.get(key)
        if view is None:
            view = _VIEWS[key] = DrbdState(
                self.connection,
                "Primary" if self.primary else "Secondary",
                {None: "Unknown", True: "Primary", False: "Secondary"}[self.peer],
                STATE_NAMES[self.state],
                STATE_NAMES[self.peer_state],
                self.suspended,
            )
        return view

    def side(self) -> Side:
        """What it sends for the handshake."""
        return Side(self.disk.generations.copy(), self.primary, self.crashed, self.host.index == 0)

    def store(self) -> None:
        """The end of every change of state: the metadata's flags, and who waits for it."""
        if self.whole:
            self.crashed = False
        disk = self.disk
        disk.crashed = self.crashed
        disk.primary = self.primary
        disk.consistent = self.state > INCONSISTENT
        disk.was_up_to_date = self.state > OUTDATED
        disk.peer_outdated = self.peer_state <= OUTDATED
        self.gate.open()
        self.host.changed()

    def fork(self) -> None:
        """What is written from here on is a generation of its own."""
        self.disk.generations.begin_new(self.host.new_generation())

    def complete_pending(self) -> None:
        """tl_clear: what was on its way to the peer is done with the own disk alone."""
        self.disk.unsynced |= self.pending
        self.host.acknowledged(self.pending)
        self.pending = 0

    def lose(self, then: str = "WFConnection") -> None:
        """The connection is gone: conn_disconnect and what the state machine makes of it."""
        if self.connection in {"SyncSource", "SyncTarget"}:
            self.host.saw("a resync cut short")
        was_exposed = self.primary and not self.linked and self.peer_state > OUTDATED
        lost_data = self.peer_state > UNKNOWN
        self.connection, self.peer = then, None
        self.peer_state = min(self.peer_state, UNKNOWN)
        exposed = self.primary and self.peer_state > OUTDATED
        if self.primary and self.state < UP_TO_DATE:
            # "Not fencing peer, I'm not even Consistent myself": it was Primary as a resync's target.
            self.starved, exposed = True, False
            self.host.saw("a Primary without data")
        elif exposed and not was_exposed:
            self.frozen = True
            self.host.saw("frozen writes")
        if lost_data and self.primary and self.state == UP_TO_DATE and not self.disk.generations.bitmap:
            self.fork_due = True
        if not self.suspended:
            self.complete_pending()
        self.store()
        if exposed:
            self.host.handler_apart()

    def fence_peer_said(self, code: int, connects: int) -> Process:
        """The end of conn_try_outdate_peer; the process returns whether the peer's disk counts as Outdated or worse."""
        if code != FENCED:
            self.host.saw("a handler that says no")
            return False
        if self.connection in ("WFConnection", "StandAlone") and self.connects == connects:
            self.peer_state = OUTDATED
            if self.frozen:
                self.host.saw("thawed by the handler")
                yield from self._thaw()
            self.store()
        elif not self.linked:
            self.host.saw("a handler whose answer came too late")
        return self.peer_state <= OUTDATED

    def resume_io(self) -> Process:
        """`drbdadm resume-io`."""
        self.host.saw("thawed by a flight")
        yield from self._thaw()
        self.starved = False
        self.store()

    def _thaw(self) -> Process:
        if self.fork_due:
            self.fork()
            # drbd_uuid_new_current waits for the disk; only then the need is taken back.
            yield METADATA_WRITE
        self.fork_due = self.frozen = False
        if not self.linked:
            self.complete_pending()

    def promote(self) -> Process:
        """drbd_set_role(R_PRIMARY); the process returns whether it is Primary."""
        vouched = False
        for _ in range(4):
            yield from self._settle()
            state = UP_TO_DATE if vouched and self.state == CONSISTENT else self.state
            if self.linked:
                ready, ask = UP_TO_DATE in {state, self.peer_state}, False
            else:
                ready = state == UP_TO_DATE and self.peer_state <= OUTDATED
                ask = state == CONSISTENT or (state == UP_TO_DATE and not ready)
            if ready:
                self.state = state
                self._become_primary()
                return True
            if not ask:
                return False
            # The mutex of all changes of state is held meanwhile: no handshake gets through (receive_uuids).
            self.mutex, connects = True, self.connects
            code = yield from self.host.handler()
            self.mutex = False
            vouched = yield from self.fence_peer_said(code, connects)
            self.gate.open()
        return False

    def _settle(self) -> Process:
        """Until a change of state can be agreed on, or need not be."""
        while self.connection == "WFReportParams" or (self.linked and not self.host.reaches_peer()):
            yield self.gate
        if self.linked:
            yield 0.1
            if self.linked and not self.host.reaches_peer():
                yield from self._settle()

    def _become_primary(self) -> None:
        if not self.linked and not self.disk.generations.bitmap:
            self.fork()
        self.primary = True
        self.store()
        self.host.promoted(alone=not self.linked)

    def peer_left(self, *, outdated: bool) -> None:
        """The peer has disconnected in good order; it has outdated itself because this side is Primary."""
        if not outdated:
            self.lose()
            return
        self.host.saw("a peer that outdated itself")
        self.connection, self.peer, self.peer_state = "WFConnection", None, OUTDATED
        if not self.disk.generations.bitmap:
            self.fork()
        self.complete_pending()
        self.store()

    def declare_equal(self) -> bool:
        """`drbdadm new-current-uuid --clear-bitmap`: True where the peer is to be told."""
        if self.connection != "Connected":
            return False
        self.fork()
        self.disk.generations.bitmap = 0
        self.state = self.peer_state = UP_TO_DATE
        self.store()
        return True
