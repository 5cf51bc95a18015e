"""When the peer is proven off, and what to do until then. Nothing here waits, asks or shoots: it decides.

One loss of the peer is one incident, and one flight of decisions: the peer comes back (withdraw), or it is proven off
by its BMC's own word or by the administrator's (proven), or nothing is known and nothing is given free (hold).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Requester = Literal["drbd", "pursuit", "heartbeat"]
"""drbd: its handler, at a loss of the peer. pursuit: goes on after a handler that ended without proof. heartbeat."""
Power = Literal["on", "off"]

GRACE = 3.0
"""Seconds in which a lost peer may come back by itself: a switch's port, or a stalled machine, needs about one."""

INSIST = 10.0
"""Seconds after which a BMC that took the order and did not carry it out is told again: servers need up to 6."""


@dataclass(frozen=True)
class Terms:
    """What the config says. delay: seconds more than GRACE that this node waits; by_bmc: the peer has a BMC."""

    peer: str
    by_bmc: bool
    delay: float


@dataclass(frozen=True)
class Look:
    """What this side knows at one moment of a flight.

    waited: seconds since it was this flight's turn, or since the first answer of a BMC that had failed to give one.
    connected: DRBD hears the peer. confirmed: the administrator's word lies there. frozen: DRBD's I/O waits for proof.
    proven: another flight has proven this incident. power: the BMC's answer, None where it is to be asked. problem: why
    the last question or order failed, if it did. ordered: seconds since the BMC took the order to switch off, None
    before it has, and again once it is to be told anew. struck: it has taken it, in this flight or shortly before.
    """

    waited: float
    connected: bool
    confirmed: bool
    frozen: bool = True
    proven: bool = False
    power: Power | None = None
    problem: str = ""
    ordered: float | None = None
    struck: bool = False


@dataclass(frozen=True)
class Proven:
    """The peer is off. ours: by our own order, so that it is ours to switch it on again."""

    by: str
    ours: bool = False


@dataclass(frozen=True)
class Withdraw:
    """There is nothing to fence; the requester is told no."""

    reason: str


@dataclass(frozen=True)
class Hold:
    """Everything stays frozen; the flight pauses, looks and asks again. loud: somebody may have to act."""

    reason: str
    loud: bool = True


@dataclass(frozen=True)
class AskPower:
    """Ask the BMC whether the peer has power."""


@dataclass(frozen=True)
class PowerOff:
    """Order the BMC to cut the peer's power."""


Next = Proven | Withdraw | Hold | AskPower | PowerOff


def next_fencing_step(requester: Requester, look: Look, terms: Terms) -> Next:
    """What a flight does next.

    DRBD asks because it has lost the peer: the peer's return ends that, and a pursuit of it. heartbeat asks because the
    peer's heartbeat is dead, and means to start what runs there: only a machine that is off will do, even where DRBD
    still hears it.
    """
    if not look.connected and (look.proven or look.confirmed):
        return Proven(by="an earlier request in the same incident" if look.proven else "the administrator's word")
    if requester != "heartbeat" and (look.connected or not look.frozen):
        # Not frozen: the peer may go on alone by right, so a promotion must not shoot it; and a pursuit came too late.
        back = f"{terms.peer} is connected again"
        return Withdraw(back if look.connected else f"nothing is frozen here, so {terms.peer} is not shot")
    by_hand = f"`xenpair fence --confirm-peer-is-off {terms.peer}` once it is off for certain"
    if not terms.by_bmc:
        return Hold(f"{terms.peer} is lost and has no BMC in the config, so nothing proves that it is off; {by_hand}")
    if look.problem:
        return Hold(f"{terms.peer} is lost and its BMC does not help: {look.problem}; trying on, or {by_hand}")
    if look.power is None:
        return AskPower()
    return _off(look, terms) if look.power == "off" else _on(look, terms, by_hand)


def _off(look: Look, terms: Terms) -> Next:
    """No wait: a machine without power has nothing to come back with."""
    if look.connected:
        return Hold(f"the BMC of {terms.peer} says off, and DRBD still hears {terms.peer}: that is no proof")
    return Proven(by="its BMC", ours=look.struck)


def _on(look: Look, terms: Terms, by_hand: str) -> Next:
    # The BMC is asked meanwhile: an outage of both networks ends on both sides at once, each counts from the first
    # answer after it, and the first one shoots first.
    if look.waited < GRACE + terms.delay:
        return Hold(f"{terms.peer} is lost; it has {GRACE + terms.delay:.0f} s to come back", loud=False)
    if look.ordered is None:
        return PowerOff()
    if look.ordered < INSIST:
        return AskPower()
    return Hold(f"the BMC of {terms.peer} takes the order to switch it off and still says on; trying on, or {by_hand}")
