"""Two nodes and their guests: the real supervisors, verbs, locks and sessions, over a Xen, a DRBD and a power that are
played. Whatever crosses from one node to the other is a place where anything else may happen first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from config.errors import XenpairError
from firstboot.brief import Brief
from firstboot.errors import PeerError
from firstboot.guests import groups, verbs, wire
from firstboot.guests.definition import Definition, Guest
from firstboot.guests.pair import Pair
from firstboot.guests.peer import PeerSession, Server
from firstboot.guests.side import LocalSide
from firstboot.guests.supervisor import Supervisor
from firstboot.places import Places
from firstboot.probe.drbd import UNCONFIGURED, DrbdState
from firstboot.probe.xen import Domain, Hypervisor

MIB = 1 << 20
NAMES = ("xen1", "xen2")
REASONS = (0, 1, 3)
"""Poweroff, reboot, crash."""
WEB = Definition("web01", "xen1", 64 * MIB, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
DB = Definition("db01", "xen2", 64 * MIB, 1, "pvh", "xenbr0", "00:16:3e:00:00:02")

STATES = {
    "connected": DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate"),
    "frozen": DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "DUnknown", suspended=True),
    "alone": DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated"),
    "booting": UNCONFIGURED,
}


class PowerCutError(BaseException):
    """The node on which this code runs has lost its power."""


@dataclass
class Machine:
    """A node. life: how often it had power; what was begun in an earlier one ends as soon as it looks up."""

    name: str
    places: Places
    on: bool = True
    life: int = 0
    drbd: Literal["connected", "frozen", "alone", "booting"] = "connected"
    domains: dict[str, Domain] = field(default_factory=dict)
    servers: list[Server] = field(default_factory=list)
    supervisor: Supervisor | None = None
    pair: Pair | None = None


class Session:
    """Of a node with its peer, which answers from its own life."""

    def __init__(self, world: World, owner: Machine, peer: Machine) -> None:
        self._world, self._owner, self._peer = world, owner, peer
        self.peer = peer.name
        self._lives = (owner.life, peer.life)
        brief = world.brief(peer)
        self._server = Server(
            peer.places, brief, LocalSide(brief, peer.places), lambda name: world.start_for(peer, name)
        )
        peer.servers.append(self._server)
        self._open = True

    @property
    def alive(self) -> bool:
        """As far as this end knows."""
        return self._open and self._lives == (self._owner.life, self._peer.life)

    def ask(self, what: str, _timeout: float = 60, /, **args: object) -> Any:
        """As PeerSession.ask(), with the world going on before and after."""
        self._world.interrupt()
        self._check()
        with self._world.on(self._peer):
            line = self._server.answer(wire.request(what, args))
        self._world.interrupt()
        self._check()
        return wire.value(wire.parse_answer(line, self._peer.name), self._peer.name)

    def _check(self) -> None:
        if not (self.alive and self._world.link and self._peer.on):
            self._open = False
            raise PeerError(f"{self._peer.name} does not answer")

    def close(self) -> None:
        """In good order the other end hears of it; else its lock is held until its lease ends."""
        if self._open and self._world.link and self._peer.on:
            self._server.release()
        self._open = False


class World:
    """Both nodes. dice: says which of so many things happens next; the rest follows."""

    def __init__(self, directory: Path, dice: Callable[[int], int]) -> None:
        self._dice = dice
        self.guests = {guest.name: guest for guest in (WEB, DB)}
        self.link = True
        self.depth = 0
        self.clock = 1000.0
        self.number = 0
        self.machines = {name: Machine(name, Places(directory / name)) for name in NAMES}
        self._stack: list[tuple[Machine, int]] = []
        for machine in self.machines.values():
            (machine.places.at("sys/class/net/xenbr0/bridge")).mkdir(parents=True)
            self._begin(machine)
            groups.carry(machine.places, machine.name)

    def brief(self, machine: Machine) -> Brief:
        """Of that node."""
        first = machine.name == NAMES[0]
        return Brief(machine.name, self.peer(machine).name, first, "r0", "data")

    def peer(self, machine: Machine) -> Machine:
        """The other one."""
        return self.machines[NAMES[1] if machine.name == NAMES[0] else NAMES[0]]

    def _begin(self, machine: Machine) -> None:
        def connect(_: Brief) -> PeerSession:
            session = Session(self, machine, self.peer(machine))
            session._check()
            return cast(PeerSession, session)

        machine.pair = Pair(self.brief(machine), machine.places, connect=connect)
        machine.supervisor = Supervisor(self.brief(machine), machine.places, now=lambda: self.clock)

    # What the code under test sees and does.

    @contextmanager
    def on(self, machine: Machine) -> Iterator[None]:
        """Code runs on that node."""
        self._stack.append((machine, machine.life))
        try:
            yield
            self._alive()
        finally:
            self._stack.pop()

    @property
    def here(self) -> Machine:
        """Where code runs now."""
        return self._stack[-1][0]

    def _alive(self) -> None:
        for machine, life in self._stack:
            if not machine.on or machine.life != life:
                raise PowerCutError

    def interrupt(self) -> None:
        """Anything may happen here."""
        while self.depth < 3 and self._dice(3) == 0:
            self.event()
        self._alive()

    def drbd(self) -> DrbdState:
        """observe.drbd()."""
        return STATES[self.here.drbd]

    def registry(self, *_: object) -> tuple[Guest, ...]:
        """registry() and legible()."""
        return tuple(Guest(guest, 8 * MIB, guest.name) for guest in self.guests.values())

    def domains(self) -> tuple[Domain, ...]:
        """xl.domains()."""
        return tuple(self.here.domains.values())

    def hypervisor(self) -> Hypervisor:
        """xl.hypervisor()."""
        return Hypervisor("4.20", 512 * MIB, 1024 * MIB, frozenset({"hvm", "hap"}), (0,))

    def create(self, guest: Definition, *_: object) -> None:
        """xl.create(): the moment that counts."""
        self._alive()
        machine = self.here
        assert STATES[machine.drbd].role == "Primary", "its disk cannot be opened"
        for other in self.machines.values():
            assert not (other.on and guest.name in other.domains), f"{guest.name} runs twice: {machine} and {other}"
        self.number += 1
        machine.domains[guest.name] = Domain(guest.name, self.number, 64, 1, "running")

    def destroy(self, domid: int) -> None:
        """xl.destroy()."""
        self.interrupt()
        self.here.domains = {name: d for name, d in self.here.domains.items() if d.domid != domid}

    def shutdown(self, domain: Domain, _: float) -> bool:
        """xl.shutdown()."""
        self.interrupt()
        if domain.guest in self.here.domains:
            self.here.domains[domain.guest] = replace(domain, state="shutdown", reason=0)
        return True

    def lvchange(self, *_: object) -> None:
        """What a side does to a volume takes its time."""
        self.interrupt()

    def retag(self, _: Pair, old: Definition, new: Definition) -> None:
        """volumes.retag()."""
        self.interrupt()
        if self.guests[old.name] == old:
            self.guests[old.name] = new

    def start_for(self, machine: Machine, name: str) -> None:
        """What `xenpair peer` does for the other side."""
        assert machine.pair is not None
        verbs.start_for_peer(machine.pair, name)

    # What may happen.

    def event(self) -> None:
        """One thing, by the dice; nothing where it cannot happen now."""
        machine = self.machines[NAMES[self._dice(2)]]
        events: tuple[Callable[[Machine], None], ...] = (
            self.look,
            self.look,
            self.look,
            self.cut,
            self.mend,
            self.notice,
            self.fence,
            self.kill,
            self.boot,
            self.join,
            self.hand_over,
            self.end,
            self.lease,
            self.move,
            self.start,
        )
        events[self._dice(len(events))](machine)

    def _run(self, machine: Machine, action: Callable[[], object]) -> None:
        """Code of a node that has power, and is not in the middle of something that one process does alone."""
        if not machine.on or any(one is machine for one, _ in self._stack):
            return
        self.depth += 1
        try:
            with self.on(machine):
                action()
        except (XenpairError, PowerCutError):
            pass
        finally:
            self.depth -= 1
        self.clock += 1

    def look(self, machine: Machine) -> None:
        """A round of its supervisor."""
        supervisor, pair = machine.supervisor, machine.pair
        assert supervisor is not None
        assert pair is not None
        self._run(machine, lambda: supervisor.look(pair))

    def move(self, machine: Machine) -> None:
        """`xenpair guest move`, of what runs there."""
        pair, names = machine.pair, sorted(machine.domains)
        assert pair is not None
        if names:
            self._run(machine, lambda: verbs.move(pair, names[0], lambda _: None))

    def start(self, machine: Machine) -> None:
        """`xenpair guest start --on` that node."""
        pair = machine.pair
        assert pair is not None
        self._run(machine, lambda: verbs.start(pair, sorted(self.guests)[self._dice(2)]))

    def cut(self, _: Machine) -> None:
        """Cables out."""
        self.link = False

    def mend(self, _: Machine) -> None:
        """Cables in: two that are frozen connect again."""
        self.link = True
        if all(one.on and one.drbd in ("frozen", "connected") for one in self.machines.values()):
            for one in self.machines.values():
                one.drbd = "connected"

    def notice(self, machine: Machine) -> None:
        """DRBD misses its peer."""
        if machine.on and machine.drbd == "connected" and not (self.link and self.peer(machine).on):
            machine.drbd = "frozen"

    def fence(self, machine: Machine) -> None:
        """The peer's power is cut, and what is frozen goes on."""
        if machine.on and machine.drbd == "frozen":
            self.kill(self.peer(machine))
            machine.drbd = "alone"

    def kill(self, machine: Machine) -> None:
        """Its power is gone, and with it all that it did."""
        machine.on = False
        machine.life += 1
        machine.domains = {}
        for server in machine.servers:
            server.release()
        machine.servers = []
        shutil.rmtree(machine.places.at("run"), ignore_errors=True)

    def boot(self, machine: Machine) -> None:
        """Power again; its storage waits for the peer."""
        if not machine.on:
            machine.on, machine.drbd = True, "booting"
            self._begin(machine)

    def join(self, machine: Machine) -> None:
        """Its storage has found the peer's."""
        peer = self.peer(machine)
        if machine.on and peer.on and self.link and machine.drbd == "booting" and peer.drbd in ("alone", "booting"):
            machine.drbd = peer.drbd = "connected"

    def hand_over(self, machine: Machine) -> None:
        """The cluster stack hands groups to a node: its own unless the peer has it, the peer's once that is lost."""
        peer = self.peer(machine)
        if not machine.on:
            return
        if machine.drbd == "alone":
            groups.carry(machine.places, peer.name)
        if not (peer.on and machine.name in groups.carried(peer.places)):
            groups.carry(machine.places, machine.name)

    def end(self, machine: Machine) -> None:
        """A guest ends from inside."""
        for name in sorted(machine.domains)[:1]:
            reason = REASONS[self._dice(len(REASONS))]
            machine.domains[name] = replace(machine.domains[name], state="shutdown", reason=reason)

    def lease(self, machine: Machine) -> None:
        """sshd gives up sessions whose other end is gone."""
        peer = self.peer(machine)
        if not (self.link and peer.on) or not self.depth:
            for server in machine.servers:
                server.release()

    def settle(self) -> None:
        """All is well again, and time passes."""
        self.link = True
        for machine in self.machines.values():
            self.boot(machine)
            if machine.drbd == "frozen":
                machine.drbd = "booting"
        for machine in self.machines.values():
            machine.drbd = "connected"
            self.lease(machine)
        for _ in range(12):
            for machine in self.machines.values():
                self.clock += 120
                self.hand_over(machine)
                self.look(machine)
