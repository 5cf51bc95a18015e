"""A split brain is frozen at once, and settled by the administrator's typed word alone.

Each node acts on its own side only; whoever was asked has the peer do the other half, over SSH, by the same command.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import BinaryIO

from config.door import run
from config.errors import CommandError
from firstboot import below, observe
from firstboot.brief import Brief
from firstboot.divergence import loss
from firstboot.errors import SplitBrainError
from firstboot.places import Places
from firstboot.plan.split_brain import obstacle
from firstboot.split_brain import PARTED, Action, ask, both, detected, is_noticed, note
from firstboot.storage import ATTEMPTS, HANDED_SECRET, adjust

log = logging.getLogger("xenpair")

UNITS = ("xenpair-storage.service", "heartbeat.service")

STOP_LIMIT = 900.0
"""Seconds for heartbeat to stop what runs on the side that gives up its data."""

FREEZE_ATTEMPTS = 30
"""Seconds in which DRBD has dropped a connection whose two ends do not belong together."""

MEET_LIMIT = 60.0
"""Seconds in which the two sides find each other once the word is given."""


def notice(brief: Brief, places: Places, pause: Callable[[float], None] = time.sleep) -> None:
    """DRBD has said, by its handler, that both sides went on alone: remember it, and freeze this side.

    Each further write would be one more that somebody loses.
    """
    note(brief, places)
    log.error("%s", detected(brief).reason)
    for _ in range(FREEZE_ATTEMPTS):
        state = observe.drbd()
        if state.connection in PARTED:
            freeze(brief)
            return
        # The connection of which the handler spoke is still being taken down.
        pause(1.0)


def freeze(brief: Brief) -> None:
    """Let nothing more be written on this side, until it is thawed or loses its power."""
    state = observe.drbd()
    if state.role == "Primary" and not state.suspended:
        log.warning("split brain: I/O is frozen on %s", brief.node)
        run(["drbdadm", "suspend-io", brief.resource])


def keep(brief: Brief, places: Places, node: str, type_out: Callable[[str], str]) -> None:
    """Keep the named node's data and discard what the other one wrote since, once the administrator has typed it.

    type_out shows a text and returns what was typed. Raises SplitBrainError where it is no split brain, where the words
    are others, or where the other side's volumes are in use.
    """
    mine, peer = both(brief)
    why_not = obstacle(mine, peer, node)
    if why_not:
        raise SplitBrainError(why_not, hint="see `xenpair status` on both nodes")
    kept, lost = (mine, peer) if node == mine.node else (peer, mine)
    phrase = f"discard what was written on {lost.node}"
    typed = type_out(f"{loss(mine, peer, lost.node)}\nType `{phrase}`: ")
    if typed.strip() != phrase:
        raise SplitBrainError(f"nothing is changed: `{phrase}` was to be typed")
    log.warning("split brain: the administrator keeps %s's data: %s", kept.node, phrase)
    generation = f"{lost.generations.current:016X}"
    _do(brief, places, kept.node, "part")
    _do(brief, places, lost.node, "give-up", generation)
    try:
        _do(brief, places, kept.node, "go-on")
    finally:
        # Also where they have not met yet: they may do so at any time from now on.
        _do(brief, places, lost.node, "rejoin")


def _do(brief: Brief, places: Places, node: str, action: Action, *arguments: str) -> None:
    if node == brief.node:
        act(brief, places, action, *arguments)
    else:
        ask(brief, action, *arguments, timeout=STOP_LIMIT)


def act(brief: Brief, places: Places, action: Action, generation: str = "") -> None:
    """One step on this side: of what keep() decides, or to meet a peer that DRBD refused and that is no other half."""
    if action == "meet":
        log.info("the peer is let in once more, which DRBD has refused")
    else:
        log.warning("split brain: %s on %s", action, brief.node)
    match action:
        case "part":
            _part(brief)
        case "give-up":
            _give_up(brief, places, generation)
        case "go-on":
            places.split_brain.unlink(missing_ok=True)
            _thaw(brief)
            _connect(brief)
            _await_meeting(brief)
            # They may have been stopped by an attempt to give up this side.
            _start_units()
        case "rejoin":
            _start_units()
        case "meet":
            if observe.drbd().connection == "StandAlone" and not is_noticed(brief, places):
                _connect(brief)


def copy(brief: Brief, volume: str, out: BinaryIO) -> None:
    """Write a volume's content as this side has it: below DRBD, so also while I/O is frozen or nothing is promoted."""
    partition = below.backing_partition(brief.resource)
    found = {v.name: v for v in below.volume_map(partition, brief.volume_group).volumes}
    if volume not in found:
        raise SplitBrainError(f"{brief.node} has no volume {volume}, only {', '.join(found) or 'none'}")
    with below.direct(partition) as (fd, _):
        for start, end in found[volume].pieces:
            out.writelines(below.pieces(fd, start, end))
    out.flush()


def _start_units() -> None:
    run(["systemctl", "start", "--no-block", *UNITS])


def _part(brief: Brief) -> None:
    """No meeting before both sides are ready for it."""
    if observe.drbd().connection != "StandAlone":
        run(["drbdadm", "disconnect", brief.resource])


def _thaw(brief: Brief) -> None:
    if observe.drbd().suspended:
        run(["drbdadm", "resume-io", brief.resource])


def _connect(brief: Brief, *options: str) -> None:
    """As storage.adjust(): a helper of drbdadm that is killed for being slow may have done its work all the same."""
    for attempt in range(ATTEMPTS):
        try:
            run(["drbdadm", "connect", *options, brief.resource], blot=[HANDED_SECRET])
        except CommandError:
            if observe.drbd().connection == "StandAlone" and attempt == ATTEMPTS - 1:
                raise
        if observe.drbd().connection != "StandAlone":
            return
        time.sleep(1)


def _give_up(brief: Brief, places: Places, generation: str) -> None:
    """Stop what uses this side's data, and offer it to be overwritten by the peer's.

    generation: the current UUID of the data that the administrator has seen. Raises SplitBrainError where the data is
    another by now, or where something still uses it.
    """
    now = observe.generations(brief.resource).current
    if f"{now:016X}" != generation:
        raise SplitBrainError(f"{brief.node}'s data is {now:016X}, and {generation} was to be discarded: look again")
    # What is frozen can neither be stopped nor closed; what it still writes is discarded with the rest.
    _thaw(brief)
    run(["systemctl", "stop", *reversed(UNITS)], timeout=STOP_LIMIT, check=False)
    if observe.drbd().role == "Primary":
        users = run(["lvs", "--noheadings", "-o", "lv_name", "-S", "lv_device_open=1", brief.volume_group], check=False)
        names = ", ".join(users.stdout.split()) or "the volume group"
        if is_noticed(brief, places):
            freeze(brief)
        raise SplitBrainError(
            f"{names} is in use on {brief.node}, so its data is not discarded",
            hint=f"shut down on {brief.node} what uses it, then say it again",
        )
    if observe.drbd().connection == "Unconfigured":
        adjust(brief.resource)
    _part(brief)
    places.split_brain.unlink(missing_ok=True)
    _connect(brief, "--discard-my-data")


def _await_meeting(brief: Brief) -> None:
    deadline = time.monotonic() + MEET_LIMIT
    while (state := observe.drbd()).connection in (*PARTED, "WFReportParams", "Unconnected"):
        if state.connection == "StandAlone" or time.monotonic() > deadline:
            raise SplitBrainError(
                f"{brief.peer} is not taken back: DRBD is {state.connection}", hint="`dmesg` says why"
            )
        time.sleep(1)
