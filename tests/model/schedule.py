"""Schedules: what happens to the pair, and when; how hypothesis makes them, and how one is played."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.model.controller import Mode
from tests.model.world import World

COUNT = int(os.environ.get("XENPAIR_SCHEDULES", "10000"))
"""How many schedules the big test plays; the small ones follow it."""

FORMING = 60.0
"""Seconds after which the pair is formed and nothing has happened yet."""

SETTLING, ROUND = 45 * 60.0, 30.0
"""Seconds in which a healed pair must become healthy, and between two looks at it."""

PATIENCE = 330.0
"""Seconds after which somebody walks to a node that has no power: more than fencing tries to give it back."""

Fault = Callable[[World], object]

FAULTS: dict[str, Fault] = {
    "cut cluster": lambda w: w.cut(ways=(0, 1)),
    "mend cluster": lambda w: w.mend(cluster=True),
    "kill xen1": lambda w: w.kill(0),
    "kill xen2": lambda w: w.kill(1),
    "power on xen1": lambda w: w.power_on(0),
    "power on xen2": lambda w: w.power_on(1),
    "confirm on xen1": lambda w: w.confirm(0),
    "confirm on xen2": lambda w: w.confirm(1),
    "cut both links": lambda w: w.cut(ways=(0, 1), guest=True),
    "mend both links": lambda w: w.mend(cluster=True, guest=True),
    "cut guest": lambda w: w.cut(guest=True),
    "mend guest": lambda w: w.mend(guest=True),
    "cut xen1's way": lambda w: w.cut(ways=(0,)),
    "cut xen2's way": lambda w: w.cut(ways=(1,)),
    "reset xen1": lambda w: w.nodes[0].reset(),
    "reset xen2": lambda w: w.nodes[1].reset(),
    "shut down xen1": lambda w: w.nodes[0].shut_down(),
    "shut down xen2": lambda w: w.nodes[1].shut_down(),
    "hang xen1": lambda w: w.hang(0),
    "hang xen2": lambda w: w.hang(1),
    "wake xen1": lambda w: w.nodes[0].wake(),
    "wake xen2": lambda w: w.nodes[1].wake(),
    "mains of xen1": lambda w: w.kill(0, mains=True),
    "mains of xen2": lambda w: w.kill(1, mains=True),
    "heartbeat of xen1": lambda w: w.stop_heartbeat(0),
    "heartbeat of xen2": lambda w: w.stop_heartbeat(1),
    **{
        f"bmc of xen{index + 1} {mode.name.lower()}": lambda w, i=index, m=mode: w.set_bmc(i, m)  # type: ignore[misc]
        for mode in Mode
        for index in (0, 1)
    },
}

GAPS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 21.0, 30.0, 45.0, 70.0, 100.0, 150.0, 250.0, 600.0)
"""Seconds between two faults."""


POINTS = (
    "a boot",
    "a flight without proof",
    "a handler that begins",
    "a handshake",
    "a promotion by consent",
    "a proof",
    "a question for the promotion",
    "a resync's beginning",
    "a resync's end",
    "an order to switch off",
    "fenced",
    "frozen writes",
    "guests taken over",
)
"""Moments that a fault may wait for, to strike just then."""

POINTLESS = 300.0
"""Seconds after which it waits no longer."""


class Move(NamedTuple):
    """After so many seconds, or at that point, this."""

    after: float | str
    fault: str


class Schedule(NamedTuple):
    """jitter: the tenths that durations take in turn. fresh: it starts with the forming of the pair."""

    moves: tuple[Move, ...]
    jitter: tuple[int, ...] = (0,)
    by_bmc: bool = True
    fresh: bool = False


def _themes() -> list[tuple[str, ...]]:
    """Faults that make trouble for each other; all of them at random would rarely meet."""

    def having(*words: str) -> tuple[str, ...]:
        return tuple(name for name in FAULTS if any(word in name for word in words))

    return [
        tuple(FAULTS),
        having("cluster", "kill", "power on", "confirm", "both links"),
        having("cluster", "way", "reset", "shut down", "power on"),
        having("both links", "guest", "unreachable", "ok", "kill", "confirm"),
        having("hang", "wake", "cluster", "bmc", "confirm"),
        having("mains", "power on", "confirm", "heartbeat", "cluster"),
        having("bmc", "cluster", "kill", "power on"),
    ]


STARTS = ((True, False), (False, False), (True, True), (True, False))
"""by_bmc and fresh of a Schedule."""


def schedules(*, themes: list[tuple[str, ...]] | None = None, most: int = 10) -> st.SearchStrategy[Schedule]:
    """At most so many faults, of one theme."""
    moves = [
        st.lists(st.sampled_from([Move(after, fault) for after in (*GAPS, *POINTS) for fault in theme]), max_size=most)
        for theme in themes or _themes()
    ]
    return st.builds(
        lambda moves, jitter, start: Schedule(tuple(moves), tuple(byte % 11 for byte in jitter), *start),
        st.one_of(moves),
        st.binary(min_size=11, max_size=11),
        st.sampled_from(STARTS),
    )


def play(schedule: Schedule, **rules: Any) -> World:
    """From the formed pair (or the forming one) to the healed one. Raises BrokenError; rules as World takes them."""
    world = World(schedule.jitter, by_bmc=schedule.by_bmc, fresh=schedule.fresh, **rules)
    if not schedule.fresh:
        world.run(FORMING)
    for after, fault in schedule.moves:
        if isinstance(after, str):
            world.run_to(after, POINTLESS)
        else:
            world.run(after)
        world.say(fault)
        FAULTS[fault](world)
        world.audit()
    world.audit.guests()
    world.say("everything is mended")
    world.heal()
    settle(world)
    world.audit.end()
    return world


def settle(world: World) -> None:
    """Let a mended world come to rest; a node that stays without power is switched on by hand."""
    end = world.clock.now + SETTLING
    while world.clock.now < end and not world.healthy:
        world.run(ROUND)
        for node in world.nodes:
            if not node.power and world.clock.now - node.lifeless > PATIENCE:
                world.power_on(node.index)
