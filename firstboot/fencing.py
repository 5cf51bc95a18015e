"""Fencing: one flight at a time that ends when the peer is back, or proven off. Until then nothing is given free.

DRBD (fence-peer) and heartbeat (STONITH) both come here. Whoever is second waits for the first one's flight and takes
over its proof, so that a machine that was switched on again is not shot a second time. Nor is frozen I/O let go twice:
DRBD would forget from which generation the two sides parted, and take the peer's return for a split brain.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Literal

from config.door import run, start, write_file
from config.errors import CommandError
from firstboot import observe
from firstboot.bmc import Bmc, bmc_of
from firstboot.brief import FencingBrief
from firstboot.errors import BmcError, FencingError
from firstboot.places import Places
from firstboot.plan.fencing import (
    AskPower,
    Hold,
    Look,
    PowerOff,
    Proven,
    Requester,
    Terms,
    Withdraw,
    next_fencing_step,
)
from firstboot.plan.replication import PROMOTABLE
from firstboot.probe.drbd import DrbdState

log = logging.getLogger("xenpair")

POLL = 0.5
"""Seconds between two looks."""

RETRY = 3.0
"""Seconds between two questions to a BMC, but for the moments after an order: each is a session, and weak BMCs have
few, and take about a second for one. No longer, or one node learns of an outage's end too late after the other."""

SWITCH_ON_LIMIT = 300.0
"""Seconds in which switching the peer on again is tried."""

UNIT = "xenpair-fencing.service"
"""Goes on where DRBD's handler ends: drbdadm kills a handler after 600 s (SLEEPS_VERY_LONG, drbd-utils)."""

SWITCH_ON_UNIT = "xenpair-switch-on.service"
"""Gives the peer its power back."""

HANDLER_LIMIT = 240.0
"""Seconds that a handler takes at most: it may have to wait for another flight of that length before its own."""

SAME_INCIDENT = 30.0
"""Seconds by which a proof may be older than DRBD's question: heartbeat may have asked first, and DRBD needs 10 to
notice that the peer went. No server is switched on, boots, connects and is lost again in that time."""

STRIKE = 60.0
"""Seconds in which a peer that is found off was switched off by our own order, whichever flight gave it: a peer that is
heard again after the order ends that flight, and loses its power all the same. BMCs take up to 6 to carry it out."""

NEVER = math.inf
"""Since when a BMC answers that does not."""

State = Literal["pursuing", "holding", "proven", "withdrawn"]


@dataclass(frozen=True)
class FencingProgress:
    """The present incident, or the last one since boot; reason says why it holds, or by what it ended."""

    state: State
    peer: str
    reason: str


def now() -> float:
    """Seconds on a clock that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def hears_peer(state: DrbdState) -> bool:
    """Whether DRBD and the peer's DRBD have agreed who they are. While they only shake hands, nothing is known."""
    return state.peer_role in ("Primary", "Secondary")


def frozen(state: DrbdState) -> bool:
    """Whether I/O is frozen that could go on alone. Without data of its own this side waits for the peer itself."""
    return state.suspended and state.disk in PROMOTABLE


def awaits_proof(state: DrbdState, places: Places) -> bool:
    """Whether I/O is frozen until the peer is proven off. After a split brain no proof will do, only a word."""
    return frozen(state) and not places.split_brain.exists()


def pursue() -> None:
    """Have the unit started that goes on where this process ends; it does nothing where it is not needed."""
    try:
        start(["systemctl", "start", "--no-block", UNIT])
    except CommandError as e:
        log.warning("fencing: %s is not started: %s", UNIT, e)


def fence(
    requester: Requester,
    brief: FencingBrief,
    places: Places,
    resource: str,
    *,
    limit: float | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Return True once the peer is proven off, False once it is back, or limit seconds have passed without a proof.

    Once proven, DRBD's frozen I/O goes on. The caller may let go of whatever else needs a dead peer if and only if this
    returns True. Raises CommandError where DRBD does not take the word.
    """
    begun = now()
    bmc = bmc_of(brief.bmc)
    with _single_flight(places):
        terms = Terms(brief.peer, brief.bmc is not None, brief.delay)
        if requester == "drbd":
            _forget_older_proof(places, begun)
        look = Look(0.0, connected=False, confirmed=False, struck=_struck_lately(places))
        answers_since, ordered_at = now(), 0.0
        while limit is None or now() - begun < limit:
            state = observe.drbd()
            if hears_peer(state):
                forget(places)
            look = replace(
                look,
                waited=max(0.0, now() - answers_since),
                connected=hears_peer(state),
                frozen=awaits_proof(state, places),
                confirmed=places.confirmation.exists(),
                proven=places.fencing_proof.exists(),
                ordered=now() - ordered_at if look.ordered is not None else None,
            )
            match next_fencing_step(requester, look, terms):
                case Proven(by, ours):
                    _prove(places, brief, by)
                    places.fencing_strike.unlink(missing_ok=True)
                    _let_go(resource, places)
                    if ours and brief.power_on:
                        _switch_on_later()
                    return True
                case Withdraw(reason):
                    # A pursuit that finds all over leaves standing how it ended.
                    if look.connected:
                        _note(places, FencingProgress("withdrawn", brief.peer, reason))
                    return False
                case Hold(reason, loud):
                    _note(places, FencingProgress("holding" if loud else "pursuing", brief.peer, reason))
                    pause(RETRY if terms.by_bmc else POLL)
                    # After a lie or a failure everything is asked and told anew.
                    look = replace(look, power=None, problem="", ordered=None)
                case AskPower():
                    look = _ask(bmc, look)
                    answers_since = NEVER if look.problem else min(answers_since, now())
                    if look.power == "on" and look.ordered is not None:
                        pause(POLL)
                case PowerOff():
                    look = _order(bmc, look, brief.peer)
                    ordered_at = now()
                    if not look.problem:
                        write_file(places.fencing_strike, json.dumps({"peer": brief.peer, "at": ordered_at}) + "\n")
                    answers_since = NEVER if look.problem else answers_since
        return False


def _ask(bmc: Bmc, look: Look) -> Look:
    try:
        return replace(look, power=bmc.power(), problem="")
    except BmcError as e:
        return replace(look, power=None, problem=e.message)


def _order(bmc: Bmc, look: Look, peer: str) -> Look:
    log.warning("fencing: %s is lost and has power: switching it off", peer)
    try:
        bmc.power_off()
    except BmcError as e:
        return replace(look, power=None, problem=e.message)
    return replace(look, power=None, problem="", ordered=0.0, struck=True)


def switch_on(brief: FencingBrief, places: Places, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Give the fenced peer its power back: once DRBD has let go of it, and until its BMC says that it is on.

    Raises BmcError where that does not happen within SWITCH_ON_LIMIT.
    """
    bmc, begun = bmc_of(brief.bmc), now()
    while awaits_proof(observe.drbd(), places) and now() - begun < SWITCH_ON_LIMIT / 2:
        pause(POLL)
    while True:
        try:
            bmc.power_on()
            if bmc.power() == "on":
                break
        except BmcError as e:
            if now() - begun > SWITCH_ON_LIMIT:
                raise
            log.warning("fencing: %s cannot be switched on again yet: %s", brief.peer, e.message)
        pause(RETRY)
    log.warning("fencing: %s is switched on again", brief.peer)


def confirm(brief: FencingBrief, places: Places, node: str, ask: Callable[[str], str]) -> None:
    """Take the administrator's word that the peer is off. ask shows a text and returns what was typed.

    Raises FencingError where the word cannot be true, is not needed, or was not typed out.
    """
    if node != brief.peer:
        raise FencingError(f"the peer of this node is {brief.peer}, not {node}")
    state = observe.drbd()
    if hears_peer(state):
        raise FencingError(f"{node} is not off: DRBD is connected to it ({state.connection}, it is {state.peer_role})")
    if places.split_brain.exists():
        raise FencingError(
            f"{node} has gone on alone as well: DRBD has met it since, and refused it", hint="see `xenpair split-brain`"
        )
    progress = read_fencing_progress(places)
    asked = progress is not None and progress.state in ("pursuing", "holding")
    if state.role == "Primary" and not state.suspended and not asked:
        raise FencingError(f"nothing waits for this: DRBD is Primary here and goes on without {node}")
    if state.disk not in PROMOTABLE:
        raise FencingError(
            f"this side cannot go on without {node}: its disk is {state.disk}",
            hint=f"{node} has the data: bring it back",
        )
    _refuse_if_powered(brief)
    phrase = f"{node} is off"
    typed = ask(
        f"If {node} still runs, both servers will write to what each believes to be the only copy, and data is lost.\n"
        f"Go to the machine, see that it has no power, and keep it so until this is done.\nType `{phrase}`: "
    )
    if typed.strip() != phrase:
        raise FencingError(f"not confirmed: `{phrase}` was to be typed")
    log.warning("fencing: the administrator confirms that %s is off", node)
    write_file(places.confirmation, json.dumps({"peer": node, "at": now()}) + "\n", mode=0o600)
    if state.suspended:
        run(["systemctl", "start", "--no-block", UNIT])


def _refuse_if_powered(brief: FencingBrief) -> None:
    if brief.bmc is None:
        return
    try:
        power = bmc_of(brief.bmc).power()
    except BmcError:
        return
    if power == "on":
        raise FencingError(
            f"the BMC of {brief.peer} says that it has power", hint="switch it off first, or take its power cord out"
        )


def forget(places: Places) -> None:
    """The peer is heard: what was proven or confirmed of it before is void, and it is no stranger."""
    places.confirmation.unlink(missing_ok=True)
    places.fencing_proof.unlink(missing_ok=True)
    places.split_brain.unlink(missing_ok=True)


def in_flight(places: Places) -> bool:
    """Whether somebody asks right now for the peer to be proven off."""
    try:
        with _single_flight(places, fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


def read_fencing_progress(places: Places) -> FencingProgress | None:
    """The last incident since boot, or None."""
    try:
        return FencingProgress(**json.loads(places.fencing_progress.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _prove(places: Places, brief: FencingBrief, by: str) -> None:
    places.confirmation.unlink(missing_ok=True)
    if not places.fencing_proof.exists():
        write_file(places.fencing_proof, json.dumps({"peer": brief.peer, "at": now(), "by": by}) + "\n")
    _note(places, FencingProgress("proven", brief.peer, f"{brief.peer} is off by {by}"))


def _let_go(resource: str, places: Places) -> None:
    """Tell DRBD that the peer is proven off: frozen I/O goes on, in a new generation.

    Its handler's exit code would do the same, and whatever else lets go at that moment, once more: the kernel (8.4.11)
    looks for the need of a new generation, writes it to the disk, and only then notes that it has. So the flight does
    it, alone, for all who ask. A promotion asks as well, with nothing frozen.
    """
    state = observe.drbd()
    if awaits_proof(state, places) and not hears_peer(state):
        run(["drbdadm", "resume-io", resource])


def _forget_older_proof(places: Places, begun: float) -> None:
    """DRBD asks only because it has just lost the peer: what was proven long before that is another incident's."""
    try:
        if float(json.loads(places.fencing_proof.read_text())["at"]) >= begun - SAME_INCIDENT:
            return
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError) as e:
        log.warning("fencing: %s is not understood, so it proves nothing: %s", places.fencing_proof, e)
    places.fencing_proof.unlink(missing_ok=True)


def _struck_lately(places: Places) -> bool:
    try:
        return float(json.loads(places.fencing_strike.read_text())["at"]) >= now() - STRIKE
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, KeyError) as e:
        log.warning("fencing: %s is not understood: %s", places.fencing_strike, e)
        return False


def _note(places: Places, progress: FencingProgress) -> None:
    if read_fencing_progress(places) != progress:
        log.warning("fencing: %s: %s", progress.state, progress.reason)
        write_file(places.fencing_progress, json.dumps(asdict(progress)) + "\n")


def _switch_on_later() -> None:
    """By a unit of its own: DRBD and heartbeat wait for the present process's end."""
    start(["systemctl", "restart", "--no-block", SWITCH_ON_UNIT])


@contextmanager
def _single_flight(places: Places, or_else: int = 0) -> Iterator[None]:
    places.fencing_lock.parent.mkdir(parents=True, exist_ok=True)
    with places.fencing_lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | or_else)
        yield
