"""A guest runs on at most one node, whatever happens at whatever moment; and when all is well again, it runs on one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from firstboot import observe
from firstboot.guests import pair as pair_module
from firstboot.guests import running, side, supervisor, verbs, volumes, xl
from tests.model.guest_world import World

SCHEDULES = 600
STEPS = 25


@contextmanager
def played(world: World) -> Iterator[None]:
    """The code under test sees that world."""
    patches: list[Any] = [
        mock.patch.object(observe, "drbd", world.drbd),
        mock.patch.object(supervisor, "legible", world.registry),
        mock.patch.object(verbs, "registry", world.registry),
        mock.patch.object(xl, "domains", world.domains),
        mock.patch.object(xl, "hypervisor", world.hypervisor),
        mock.patch.object(xl, "create", world.create),
        mock.patch.object(xl, "destroy", world.destroy),
        mock.patch.object(xl, "shutdown", world.shutdown),
        mock.patch.object(volumes, "retag", world.retag),
        mock.patch.object(side, "run", world.lvchange),
        mock.patch.object(verbs, "PATIENCE", 0.0),
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def play(numbers: Iterator[int]) -> World:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), lambda sides: next(numbers, sides - 1) % sides)
        with played(world):
            for _ in range(STEPS):
                world.event()
            # From here on nothing else happens.
            world._dice = lambda sides: sides - 1
            world.settle()
        return world


NUMBERS = st.lists(st.integers(0, 59), min_size=60, max_size=160)


def check(numbers: list[int]) -> None:
    """World.create() looks whether it runs twice; here, whether it runs at all."""
    world = play(iter(numbers))
    for name, guest in world.guests.items():
        on = [machine.name for machine in world.machines.values() if name in machine.domains]
        assert len(on) == (1 if guest.wanted == "running" else 0), f"{name} runs on {on or 'no node'}"


@settings(max_examples=SCHEDULES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(NUMBERS)
def test_a_guest_runs_on_one_node_at_most_and_in_the_end_on_one(numbers: list[int]) -> None:
    check(numbers)


# Whether there is a schedule that shows it is asked, not for the shortest one.
noticing = settings(
    max_examples=SCHEDULES,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def test_the_model_would_notice_a_start_without_asking_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "prove_elsewhere_absent", lambda *_: None)
    monkeypatch.setattr(running, "here", lambda *_: None)
    with pytest.raises(AssertionError, match="runs twice"):
        noticing(given(NUMBERS)(check))()


def test_the_model_would_notice_a_lock_that_holds_on_one_node_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_module, "take", lambda *_: mock.Mock())
    monkeypatch.setattr("firstboot.guests.peer.take", lambda *_: mock.Mock())
    with pytest.raises(AssertionError, match="runs twice"):
        noticing(given(NUMBERS)(check))()
