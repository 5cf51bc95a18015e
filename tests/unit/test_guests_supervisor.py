"""The supervisor of one node, with a peer, a Xen and a volume group that are played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from config.errors import CommandError
from firstboot import observe
from firstboot.brief import Brief
from firstboot.errors import LockedError, PeerError
from firstboot.guests import groups, held, supervisor, volumes, xl
from firstboot.guests.definition import Definition, Guest
from firstboot.guests.pair import Pair
from firstboot.guests.supervisor import BELIEVED, RETRY, Supervisor
from firstboot.places import Places
from firstboot.plan.guests import CRASH, FIRST_PAUSE
from firstboot.plan.survival import PeerState, peer_state
from firstboot.probe.drbd import DrbdState
from firstboot.probe.xen import Domain, Hypervisor
from tests.unit.guests_rig import FROZEN, SURVIVOR

MIB = 1 << 20
SIZE = 8 * MIB
BRIEF = Brief(node="xen1", peer="xen2", first=True, resource="r0", volume_group="data")
WEB = Definition("web01", "xen1", 256 * MIB, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
CONNECTED = DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")


@dataclass
class World:
    """Both nodes, as far as a supervisor sees them. peers: None where the peer does not answer."""

    places: Places
    guests: dict[str, Definition] = field(default_factory=dict)
    running: dict[str, Domain] = field(default_factory=dict)
    peers: list[str] | None = field(default_factory=list)
    drbd: DrbdState = CONNECTED
    free: int = 1024 * MIB
    locked: set[str] = field(default_factory=set)
    asked: int = 0
    created: list[str] = field(default_factory=list)
    clock: float = 1000.0
    mute: bool = False
    brief: Brief = BRIEF
    mapped: dict[str, int | None] = field(default_factory=dict)
    """What the kernel maps of a volume, where that is not all of it."""
    refreshed: list[str] = field(default_factory=list)

    @property
    def here(self) -> World:
        return self

    @contextmanager
    def lock(self, name: str, *, what: str, wait: float) -> Iterator[None]:
        assert what
        assert wait == 0, "it never waits for a guest while others may need it"
        if name in self.locked:
            raise LockedError(f"{name} is held")
        yield

    def verify(self) -> None:
        pass

    def state(self) -> PeerState:
        return peer_state(self.drbd)

    def mapped_size(self, volume: str) -> int | None:
        return self.mapped.get(volume, SIZE)

    def refresh(self, volume: str) -> None:
        assert volume in self.guests
        self.refreshed.append(volume)

    def peer(self) -> World:
        self.asked += 1
        if self.peers is None:
            raise PeerError("xen2 does not answer")
        return self

    def domains(self) -> tuple[Domain, ...]:
        assert self.peers is not None
        return tuple(Domain(name, 3, 256, 1, "running") for name in self.peers)

    def create(self, guest: Definition, *_: Any) -> None:
        self.created.append(guest.name)
        self.running[guest.name] = Domain(guest.name, 10 + len(self.created), guest.memory // MIB, 1, "running")
        self.free -= guest.memory

    def ends(self, name: str, reason: int) -> None:
        self.running[name] = replace(self.running[name], state="shutdown", reason=reason)

    def destroy(self, domid: int) -> None:
        self.free += sum(domain.memory for domain in self.running.values() if domain.domid == domid) * MIB
        self.running = {name: domain for name, domain in self.running.items() if domain.domid != domid}

    def retag(self, _: Any, old: Definition, new: Definition) -> None:
        assert self.guests[old.name] == old
        self.guests[old.name] = new

    def own_domains(self) -> tuple[Domain, ...]:
        if self.mute:
            raise CommandError(["xl", "list", "-v"], None, "", what="no end after 60 s, killed")
        return tuple(self.running.values())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(Places(tmp_path), {"web01": WEB})
    groups.carry(world.places, "xen1")
    monkeypatch.setattr(observe, "drbd", lambda: world.drbd)
    monkeypatch.setattr(supervisor, "legible", lambda *_: tuple(Guest(one, SIZE, "u") for one in world.guests.values()))
    monkeypatch.setattr(xl, "domains", world.own_domains)
    monkeypatch.setattr(xl, "create", world.create)
    monkeypatch.setattr(xl, "destroy", world.destroy)
    monkeypatch.setattr(
        xl, "hypervisor", lambda: Hypervisor("4.20.1", world.free, 4096 * MIB, frozenset({"hvm", "hap"}), (0,))
    )
    monkeypatch.setattr(volumes, "retag", world.retag)
    return world


@pytest.fixture
def guardian(world: World) -> Supervisor:
    return Supervisor(BRIEF, world.places, now=lambda: world.clock)


def look(guardian: Supervisor, world: World) -> bool:
    return guardian.look(cast(Pair, world))


def test_a_guest_of_a_group_that_this_node_carries_is_started_once(guardian: Supervisor, world: World) -> None:
    assert not look(guardian, world)
    assert not look(guardian, world)
    assert world.created == ["web01"]


def test_nothing_is_started_before_the_stack_has_handed_the_group_out(guardian: Supervisor, world: World) -> None:
    groups.release(world.places, "xen1")
    look(guardian, world)
    assert world.created == []
    assert world.asked == 0


def test_a_lost_peers_guests_are_started_at_its_proof_and_not_before(guardian: Supervisor, world: World) -> None:
    world.guests["db01"] = replace(WEB, name="db01", home="xen2")
    look(guardian, world)
    world.drbd = FROZEN
    look(guardian, world)
    assert world.created == ["web01"]
    world.drbd = SURVIVOR
    look(guardian, world)
    assert world.created == ["web01", "db01"]
    assert groups.carried(world.places) == ("xen1", "xen2")


@pytest.mark.parametrize(("mapped", "refreshed"), [(SIZE, []), (4 * MIB, ["web01"]), (None, ["web01"])])
def test_a_disk_is_loaded_anew_before_a_start_where_the_peer_has_let_it_grow(
    guardian: Supervisor, world: World, mapped: int | None, refreshed: list[str]
) -> None:
    world.mapped["web01"] = mapped
    look(guardian, world)
    assert world.created == ["web01"]
    assert world.refreshed == refreshed


def test_what_the_stack_takes_from_a_survivor_stays_taken(guardian: Supervisor, world: World) -> None:
    look(guardian, world)
    world.drbd = SURVIVOR
    look(guardian, world)
    for group in ("xen1", "xen2"):
        groups.release(world.places, group)
    look(guardian, world)
    assert groups.carried(world.places) == ()


def test_a_node_to_which_the_stack_has_handed_nothing_waits_for_its_word(guardian: Supervisor, world: World) -> None:
    groups.release(world.places, "xen1")
    look(guardian, world)
    world.drbd = SURVIVOR
    look(guardian, world)
    assert groups.carried(world.places) == ()


def test_a_guest_that_the_peer_has_is_not_started_and_the_peer_is_believed_for_a_while(
    guardian: Supervisor, world: World
) -> None:
    world.peers = ["web01"]
    look(guardian, world)
    asked = world.asked
    world.clock += BELIEVED - 1
    look(guardian, world)
    assert world.asked == asked
    world.peers, world.clock = [], world.clock + 2
    look(guardian, world)
    assert world.created == ["web01"]


def test_a_peer_that_does_not_answer_may_have_the_guest(guardian: Supervisor, world: World) -> None:
    world.peers = None
    assert look(guardian, world)
    assert world.created == []
    asked = world.asked
    look(guardian, world)
    assert world.asked == asked, "it is not pressed"
    world.clock, world.peers = world.clock + RETRY, []
    look(guardian, world)
    assert world.created == ["web01"]


def test_a_guest_that_somebody_else_is_at_is_left_alone_for_now(guardian: Supervisor, world: World) -> None:
    world.locked.add("guest/web01")
    assert look(guardian, world)
    assert world.created == []
    world.locked.clear()
    look(guardian, world)
    assert world.created == ["web01"]


@pytest.mark.parametrize(
    "drbd", [replace(CONNECTED, suspended=True), replace(CONNECTED, role="Secondary"), DrbdState("Unconfigured")]
)
def test_nothing_is_started_on_storage_that_cannot_carry_it(
    guardian: Supervisor, world: World, drbd: DrbdState
) -> None:
    world.drbd = drbd
    assert look(guardian, world)
    assert world.created == []


def test_a_xen_that_does_not_answer_is_no_xen_without_guests(guardian: Supervisor, world: World) -> None:
    world.mute = True
    assert look(guardian, world)
    assert world.created == []


def test_the_more_important_guest_gets_the_memory_and_the_other_one_is_held_until_there_is_room(
    guardian: Supervisor, world: World
) -> None:
    world.guests["db01"] = replace(WEB, name="db01", priority=90)
    world.free = 300 * MIB
    look(guardian, world)
    assert world.created == ["db01"]
    assert "web01 needs 259M" in held.read(world.places)["web01"]
    world.free = 300 * MIB
    look(guardian, world)
    assert world.created == ["db01", "web01"]
    assert held.read(world.places) == {}


def test_a_crashed_guest_comes_back_and_one_that_crashes_at_once_each_time_less_and_less_often(
    guardian: Supervisor, world: World
) -> None:
    look(guardian, world)
    world.clock += 3600
    world.ends("web01", CRASH)
    look(guardian, world)
    assert len(world.created) == 2
    for pause in (0.0, FIRST_PAUSE, 2 * FIRST_PAUSE):
        world.clock += 1
        world.ends("web01", CRASH)
        before = len(world.created)
        look(guardian, world)
        if pause:
            assert len(world.created) == before
            world.clock += pause
            look(guardian, world)
        assert len(world.created) == before + 1


def test_a_guest_that_was_shut_down_from_inside_and_may_stay_so_is_noted_as_stopped(
    guardian: Supervisor, world: World
) -> None:
    world.guests["web01"] = replace(WEB, restart="on-crash")
    look(guardian, world)
    world.ends("web01", 0)
    look(guardian, world)
    assert world.running == {}
    assert world.guests["web01"].wanted == "stopped"
    look(guardian, world)
    assert world.created == ["web01"]


def test_what_ended_here_while_it_runs_on_the_peer_is_removed_and_not_started(
    guardian: Supervisor, world: World
) -> None:
    look(guardian, world)
    world.ends("web01", 2)
    world.peers = ["web01"]
    look(guardian, world)
    assert world.running == {}
    assert world.created == ["web01"]


def test_leftovers_of_a_dead_migration_are_removed_under_the_lock_alone(guardian: Supervisor, world: World) -> None:
    world.running["web01--incoming"] = Domain("web01--incoming", 5, 256, 1, "paused")
    world.peers = ["web01"]
    world.locked.add("guest/web01")
    look(guardian, world)
    assert world.running
    world.locked.clear()
    look(guardian, world)
    assert world.running == {}
    assert world.created == []
