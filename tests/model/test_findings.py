"""Schedules that broke a rule when the model first played them."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from config.model import Fencing
from tests.model.schedule import COUNT, FORMING
from tests.model.world import World


def deaths(world: World, index: int) -> int:
    """How often that node was switched off; a life ends once for each boot."""
    return world.nodes[index].life


def test_a_promotion_that_loses_the_peer_does_not_shoot_it() -> None:
    """The resync's target knows that it is UpToDate, its source does not yet, and goes on alone by right."""
    world = World((5,))
    world.run(FORMING)
    world.kill(0)
    world.run(60)
    world.power_on(0)
    target, source = world.nodes
    while not target.drbd.whole or source.drbd.connection != "SyncSource":
        world.run(0.1)
    world.cut(ways=(0, 1))
    world.run(300)


@pytest.mark.parametrize("seconds", [40, 100, 200])
def test_an_outage_of_both_networks_does_not_cost_both_nodes(seconds: float) -> None:
    world = World((0,), strict=True)
    world.run(FORMING)
    world.cut(ways=(0, 1), guest=True)
    world.run(seconds)
    world.mend(cluster=True, guest=True)
    world.run(300)
    assert any(node.power for node in world.nodes)


def test_an_outage_of_both_networks_never_costs_both_nodes() -> None:
    chance = random.Random(0)  # noqa: S311
    for _ in range(max(COUNT // 10, 200)):
        world = World([chance.randint(0, 10) for _ in range(11)], strict=True)
        world.run(FORMING)
        world.cut(ways=(0, 1), guest=True)
        world.run(chance.uniform(15, 150))
        world.mend(cluster=True, guest=True)
        world.run(60)


def test_a_peer_whose_heartbeat_died_is_shot_once() -> None:
    world = World((5,))
    world.run(FORMING)
    world.stop_heartbeat(1)
    world.run(300)
    assert world.healthy
    assert deaths(world, 1) == 1


def test_the_storage_unit_outlives_a_peer_that_dies_while_it_promotes() -> None:
    world = World((5,), by_bmc=False)
    world.run(FORMING)
    world.kill(1)
    world.run(60)
    world.confirm(0)
    world.run(60)
    world.power_on(1)
    while world.nodes[1].storage != "promoting":
        world.run(0.05)
    world.nodes[0].reset()
    world.run(900)
    world.audit.end()


def test_the_word_is_taken_where_heartbeat_waits_for_it() -> None:
    world = World((5,), by_bmc=False)
    world.run(FORMING)
    world.stop_heartbeat(1)
    world.run(60)
    world.nodes[1].shut_down()
    world.run(60)
    world.confirm(0)
    world.run(600)
    assert world.nodes[0].heartbeat.taken_over


def test_the_least_delay_that_the_config_takes_is_enough() -> None:
    chance, delay = random.Random(0), least_delay()  # noqa: S311
    for _ in range(COUNT // 10):
        world = World([chance.choice((0, 10, chance.randint(0, 10))) for _ in range(11)], delays=(0.0, delay))
        world.run(FORMING)
        world.cut(ways=(0, 1))
        world.run(60)


def least_delay() -> float:
    """By asking the model of the config."""
    for delay in range(301):
        try:
            return Fencing.model_validate({"delay": delay}).delay
        except ValidationError:
            continue
    raise AssertionError("no delay is taken")
