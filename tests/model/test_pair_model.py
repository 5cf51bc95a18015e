"""Thousands of schedules of crashes, cuts, delays and hands, played on a model of the pair with the real decisions.

XENPAIR_SCHEDULES says how many (10,000 if not given; 300 for a quick look, seconds for all of tests/model);
XENPAIR_SEED makes it other ones than those that every run plays. A failure prints the shortest schedule that hypothesis
could find, and its story.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings

from tests.model.audit import BrokenError
from tests.model.controller import Mode
from tests.model.schedule import COUNT, FORMING, Schedule, play, schedules, settle
from tests.model.world import World

SEED = os.environ.get("XENPAIR_SEED", "")

LANDMARKS = {
    "a handler that says no",
    "a peer that is to be switched on again",
    "a peer that outdated itself",
    "a promotion alone",
    "a promotion by consent",
    "a resync cut short",
    "a write that lands after a hang",
    "fenced",
    "guests taken over",
    "power cut",
    "shutdown",
    "thawed by a flight",
}
"""Where schedules must come, or they prove nothing."""

MANY = settings(
    max_examples=COUNT,
    derandomize=not SEED,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def test_whatever_happens_nothing_is_lost_and_the_pair_comes_back() -> None:
    seen: set[str] = set()

    @MANY
    @given(schedules())
    def no_schedule_breaks_a_rule(schedule: Schedule) -> None:
        story: list[str] = []
        try:
            seen.update(play(schedule).seen)
        except BrokenError:
            with pytest.raises(BrokenError):
                play(schedule, say=story.append)
            note("\n".join(story))
            raise

    (seed(int(SEED))(no_schedule_breaks_a_rule) if SEED else no_schedule_breaks_a_rule)()
    assert seen >= LANDMARKS or COUNT < 5000, LANDMARKS - seen


@pytest.fixture
def world() -> World:
    """A formed pair in which everything takes as long as it does in the middle."""
    return formed()


def formed(*, by_bmc: bool = True) -> World:
    """A formed pair."""
    world = World((5,), by_bmc=by_bmc)
    world.run(FORMING)
    assert world.healthy
    return world


def test_two_fresh_nodes_form_a_pair() -> None:
    world = World((5,), fresh=True)
    world.run(FORMING)
    assert world.healthy
    assert world.nodes[0].disk.generations.current == world.nodes[1].disk.generations.current


@pytest.mark.parametrize("index", [0, 1])
def test_a_node_that_dies_is_proven_off_and_its_guests_are_taken_over(world: World, index: int) -> None:
    world.kill(index)
    world.run(40)
    survivor = world.nodes[1 - index]
    assert survivor.drbd.serves
    assert survivor.heartbeat.taken_over
    # It was not our order that switched it off.
    world.run(600)
    assert not world.nodes[index].power


def test_a_cut_link_costs_the_second_node_a_reboot(world: World) -> None:
    world.cut(ways=(0, 1))
    world.run(60)
    one, two = world.nodes
    assert one.drbd.serves
    assert two.died_of == "fenced"
    world.mend(cluster=True)
    world.run(200)
    assert world.healthy


def test_a_flap_within_the_grace_shoots_nobody() -> None:
    world = World((0,))
    world.run(FORMING)
    world.cut(ways=(0, 1))
    world.run(0.5)
    assert world.nodes[0].drbd.frozen
    world.mend(cluster=True)
    world.run(60)
    assert world.healthy
    assert "fenced" not in world.seen


@pytest.mark.parametrize("mode", [Mode.LIES, Mode.UNREACHABLE, Mode.LATE])
def test_without_a_proof_everything_stays_frozen_until_a_person_has_looked(world: World, mode: Mode) -> None:
    world.set_bmc(1, mode)
    world.nodes[1].bmc.mode = mode
    world.hang(1)
    world.run(900)
    survivor = world.nodes[0]
    assert survivor.drbd.frozen or mode is Mode.LATE
    world.kill(1, mains=True)
    world.confirm(0)
    world.run(60)
    assert survivor.drbd.serves
    assert survivor.heartbeat.taken_over


def test_without_a_bmc_the_word_is_all_that_thaws() -> None:
    world = formed(by_bmc=False)
    world.kill(1)
    world.run(1200)
    assert world.nodes[0].drbd.frozen
    world.confirm(0)
    world.run(60)
    assert world.nodes[0].drbd.serves
    assert world.nodes[0].heartbeat.taken_over


def test_frozen_writes_are_not_resent_to_a_peer_that_was_away_and_was_not_primary(world: World) -> None:
    one, two = world.nodes
    world.kill(1)
    world.run(60)
    world.power_on(1)
    while not (one.drbd.whole and two.drbd.whole):
        world.run(0.05)
    world.set_bmc(1, Mode.UNREACHABLE)
    two.reset()
    world.run(30)
    assert one.drbd.frozen
    world.run(200)
    assert "a peer that is only Consistent" in world.seen
    assert world.healthy
    world.audit.end()


@pytest.mark.parametrize("fault", [World.kill, World.hang])
def test_after_any_single_fault_the_pair_heals(world: World, fault: Callable[[World, int], None]) -> None:
    fault(world, 0)
    world.run(300)
    world.heal()
    settle(world)
    world.audit.end()
