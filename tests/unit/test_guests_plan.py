"""What the supervisor decides of one guest, from what it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from firstboot.guests.definition import Definition
from firstboot.plan.guests import (
    CRASH,
    LONGEST_PAUSE,
    REBOOT,
    SUSPEND,
    WATCHDOG,
    Bury,
    Leave,
    Revive,
    Start,
    Sweep,
    next_guest_step,
    pause_before,
)
from firstboot.probe.xen import Domain

WEB = Definition("web01", "xen1", 256 << 20, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
POWEROFF = 0


def domain(name: str = "web01", state: str = "running", reason: int | None = None) -> Domain:
    values: dict[str, Any] = {"memory": 256, "vcpus": 1, "state": state, "reason": reason}
    return Domain(name, 7, **values)


def ended(reason: int) -> Domain:
    return domain(state="shutdown", reason=reason)


def test_an_absent_guest_is_started_by_the_node_that_carries_its_group_alone() -> None:
    assert next_guest_step(WEB, [], carried=True) == Start()
    assert next_guest_step(WEB, [], carried=False) == Leave()


def test_a_guest_that_was_stopped_by_hand_stays_off() -> None:
    assert next_guest_step(replace(WEB, wanted="stopped"), [], carried=True) == Leave()


@pytest.mark.parametrize("carried", [True, False])
def test_a_running_guest_is_left_alone_wherever_its_group_is(carried: bool) -> None:
    assert next_guest_step(WEB, [domain()], carried=carried) == Leave()
    assert next_guest_step(WEB, [domain(state="paused")], carried=carried) == Leave()


def test_other_guests_domains_do_not_count() -> None:
    assert next_guest_step(WEB, [domain("web010"), domain("Domain-0")], carried=True) == Start()


@pytest.mark.parametrize("phase", ["making", "deleting"])
def test_what_is_being_made_or_deleted_is_not_touched(phase: Literal["making", "deleting"]) -> None:
    assert next_guest_step(replace(WEB, phase=phase), [], carried=True) == Leave()


@pytest.mark.parametrize(
    ("restart", "reason", "back"),
    [
        ("always", POWEROFF, True),
        ("always", CRASH, True),
        ("on-crash", POWEROFF, False),
        ("on-crash", CRASH, True),
        ("on-crash", WATCHDOG, True),
        ("never", POWEROFF, False),
        ("never", CRASH, False),
        ("never", REBOOT, True),
        ("never", SUSPEND, True),
    ],
)
def test_a_guest_that_has_ended_comes_back_as_its_config_says(
    restart: Literal["always", "on-crash", "never"], reason: int, back: bool
) -> None:
    # Where it ran, also where that is not its home.
    step = next_guest_step(replace(WEB, restart=restart), [ended(reason)], carried=False)
    assert step == (Revive(7) if back else Bury(7, rest=True))


def test_what_is_left_of_a_guest_that_was_stopped_by_hand_is_removed_and_nothing_is_noted() -> None:
    assert next_guest_step(replace(WEB, wanted="stopped"), [ended(REBOOT)], carried=True) == Bury(7, rest=False)


@pytest.mark.parametrize("suffix", ["--incoming", "--migratedaway"])
def test_what_a_dead_migration_has_left_is_swept_away(suffix: str) -> None:
    assert next_guest_step(WEB, [domain(f"web01{suffix}", state="paused")], carried=True) == Sweep(7)


def test_a_guest_that_ends_at_once_each_time_is_started_less_and_less_often() -> None:
    pauses = [pause_before(lives) for lives in range(12)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
