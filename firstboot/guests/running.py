"""Starting and ending a guest on this node, with the proof that it runs nowhere else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from config.capacity import guest_share
from config.errors import CommandError
from firstboot import observe
from firstboot.errors import ElsewhereError, GuestError, HeldError, NodeError
from firstboot.guests import xl
from firstboot.guests.definition import Definition, Guest
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.probe.xen import Domain

log = logging.getLogger("xenpair")

STOP_LIMIT = 90.0
"""Seconds that a guest gets to shut down when its node does, or its group leaves; then its power is cut. systemd gives
a service the same by default (DefaultTimeoutStopSec)."""


def here(name: str, domains: Sequence[Domain] | None = None) -> Domain | None:
    """The guest's domain on this node, ended or in a migration too. Raises CommandError, ProbeError."""
    found = [domain for domain in (xl.domains() if domains is None else domains) if domain.guest == name]
    return found[0] if found else None


def prove_elsewhere_absent(pair: Pair, name: str) -> None:
    """Return only if the peer does not have that guest and cannot get it while the caller holds its lock.

    Raises ElsewhereError where the peer has it, PeerError where nobody knows.
    """
    peer = pair.peer()
    if peer is not None and (domain := here(name, peer.domains())) is not None:
        raise ElsewhereError(
            f"{name} is on {pair.brief.peer} ({domain.state})", hint="`xenpair guest list` shows both nodes"
        )


def start(pair: Pair, guest: Guest, domains: Sequence[Domain] | None = None) -> None:
    """Start it here. The caller holds the guest's lock on both nodes, and may have looked at this node's domains since.

    Raises ElsewhereError where the peer has it, GuestError where it is here or this node cannot run it, HeldError where
    its memory is not free, PeerError where the peer might run it, CommandError where Xen refuses.
    """
    drbd = observe.drbd()
    if drbd.role != "Primary" or drbd.suspended:
        raise GuestError("this node's storage cannot carry guests now", hint="see `xenpair status`")
    if (domain := here(guest.name, domains)) is not None:
        raise GuestError(f"{guest.name} is here already ({domain.state})")
    prove_elsewhere_absent(pair, guest.name)
    admit(guest.definition, xl.hypervisor().free_memory, pair.brief.node)
    if pair.here.mapped_size(guest.name) != guest.size:
        # Whoever let its disk grow has died before this node had heard of it. Nothing else moves a volume's extents.
        pair.here.refresh(guest.name)
    # Right before what cannot be undone: the lock may have been lost since it was taken, or the peer may be back.
    pair.verify()
    log.info("guests: %s is being started", guest.name)
    xl.create(guest.definition, pair.brief.volume_group, pair.places)
    log.info("guests: %s is started", guest.name)


def admit(guest: Definition, free: int, node: str) -> None:
    """Raises HeldError where a node with that much free memory (bytes) cannot take the guest."""
    need = guest_share(guest)
    if need > free:
        mib = 1 << 20
        raise HeldError(
            f"{guest.name} needs {-(-need // mib)}M of memory, and {node} has {free // mib}M free",
            hint="it is started as soon as there is room; `xenpair capacity` shows what runs where",
        )


def end(guest: str, limit: float, *, force: bool = False) -> None:
    """Shut it down here and clear what is left of its domain; nothing where it does not run.

    force: cut its power where it has not shut down within limit seconds. Raises GuestError where it goes on,
    CommandError or ProbeError where Xen does not answer: then it may still run.
    """
    domain = here(guest)
    if domain is None:
        return
    if not domain.ended and not xl.shutdown(domain, limit):
        if not force:
            raise GuestError(
                f"{guest} did not shut down within {limit:.0f} s, and runs on",
                hint=f"look at it with `xenpair guest console {guest}`, or cut its power: stop --force",
            )
        log.warning("guests: %s did not shut down within %.0f s: its power is cut", guest, limit)
    clear(guest)


def clear(guest: str) -> None:
    """Remove whatever is left of the guest's domains here."""
    for domain in xl.domains():
        if domain.guest == guest:
            xl.destroy(domain.domid)


def end_all(names: Sequence[str], limit: float = STOP_LIMIT) -> None:
    """Shut these guests down here, all at once, and cut the power of those that are still on after limit seconds.

    Raises NodeError where one of them may still run.
    """
    deadline = time.monotonic() + limit
    domains = [domain for domain in xl.domains() if domain.guest in names]
    for domain in domains:
        if not domain.ended:
            _try(partial(xl.ask_to_shut_down, domain))
    while any(not domain.ended for domain in domains) and time.monotonic() < deadline:
        time.sleep(1)
        domains = [domain for domain in xl.domains() if domain.guest in names]
    for domain in domains:
        if not domain.ended:
            log.warning("guests: %s did not shut down within %.0f s: its power is cut", domain.guest, limit)
        _try(partial(xl.destroy, domain.domid))
    if left := [domain.guest for domain in xl.domains() if domain.guest in names]:
        raise NodeError(f"Xen could not end {', '.join(left)}", hint="see `xl list`")


def end_every(volume_group: str) -> None:
    """The same for every guest of the volume group that is here.

    Where Xen does not answer, nothing is done: a volume that a guest still uses cannot be taken from it anyway.
    """
    try:
        end_all([guest.name for guest in registry(volume_group)])
    except CommandError as e:
        log.warning("guests: whether one is still here is not known: %s", e)


def _try(action: Callable[[], object]) -> None:
    """One guest that cannot be ended must not keep the others from it; the caller looks at what is left."""
    try:
        action()
    except CommandError as e:
        log.warning("guests: %s", e)
