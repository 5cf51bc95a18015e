"""What an administrator does with a guest that exists. Each verb acts on this node, where the guest is or is to be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from config.errors import CommandError, XenpairError
from firstboot.errors import GuestError
from firstboot.guests import groups, held, running, volumes, xl
from firstboot.guests.definition import Guest
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.plan.migration import obstacles

log = logging.getLogger("xenpair")

PATIENCE = 60.0
"""Seconds that a verb waits for somebody else who is at the same guest."""
SHUTDOWN_LIMIT = 120.0
"""Seconds that a guest gets to shut down when it is asked to; Debian's own units get 90 for their stop."""


@dataclass(frozen=True)
class Listed:
    """A guest as `xenpair guest list` shows it. running_on: null where it runs nowhere, or nobody knows; see state."""

    name: str
    home: str
    running_on: str | None
    state: str
    memory: int
    vcpus: int
    disk: int
    type: str
    address: str
    held: str = ""


def found(pair: Pair, name: str) -> Guest:
    """The guest of that name. Raises GuestError where there is none."""
    guests = registry(pair.brief.volume_group)
    for guest in guests:
        if guest.name == name:
            return guest
    names = ", ".join(sorted(guest.name for guest in guests)) or "none yet"
    raise GuestError(f"there is no guest {name}", hint=f"the guests are: {names}")


def where(pair: Pair, name: str) -> str | None:
    """The node on which it has a domain, or None where on neither. Raises PeerError where the peer cannot be asked."""
    if running.here(name) is not None:
        return pair.brief.node
    peer = pair.peer()
    return pair.brief.peer if peer is not None and running.here(name, peer.domains()) is not None else None


def carrier(pair: Pair, group: str) -> str | None:
    """The node that carries the group, or None where the stack has handed it to neither."""
    if group in groups.carried(pair.places):
        return pair.brief.node
    peer = pair.peer()
    return pair.brief.peer if peer is not None and group in peer.carried() else None


def listing(pair: Pair) -> tuple[tuple[Listed, ...], str]:
    """All guests in the order of their names, and a warning where the peer's part is not known."""
    guests = sorted(registry(pair.brief.volume_group), key=lambda guest: guest.name)
    sides = {pair.brief.node: xl.domains()}
    warning = ""
    try:
        if (peer := pair.peer()) is not None:
            sides[pair.brief.peer] = peer.domains()
    except XenpairError as e:
        warning = f"what runs on {pair.brief.peer} is not known: {e}"
    waiting = held.read(pair.places)
    rows = []
    for guest in guests:
        one = guest.definition
        on = next((node for node, domains in sides.items() if running.here(one.name, domains)), None)
        domain = running.here(one.name, sides[on]) if on else None
        absent = "stopped" if one.wanted == "stopped" else "unknown" if warning else "absent"
        state: str = one.phase if one.phase != "ready" else domain.state if domain else absent
        rows.append(
            Listed(
                one.name,
                one.home,
                on,
                state,
                one.memory,
                one.vcpus,
                guest.size,
                one.kind,
                one.address,
                held=waiting.get(one.name, ""),
            )
        )
    return tuple(rows), warning


def start(pair: Pair, name: str) -> None:
    """Start it here, and keep it running from now on; fine where it runs here already."""
    with pair.lock(f"guest/{name}", what=f"guest start {name}", wait=PATIENCE):
        guest = _ready(pair, name)
        if guest.definition.wanted != "running":
            guest = _want(pair, guest, "running")
        if (domain := running.here(name)) is not None:
            if not domain.ended:
                return
            running.clear(name)
        running.start(pair, guest)


def stop(pair: Pair, name: str, *, force: bool = False) -> None:
    """Shut it down here, or note that it is to stay off; it stays off until it is started by hand."""
    with pair.lock(f"guest/{name}", what=f"guest stop {name}", wait=PATIENCE):
        guest = _ready(pair, name)
        if guest.definition.wanted != "stopped":
            _want(pair, guest, "stopped")
        running.end(name, 10.0 if force else SHUTDOWN_LIMIT, force=force)


def restart(pair: Pair, name: str, *, force: bool = False) -> None:
    """Shut it down here and start it again, with what has been changed of it since."""
    with pair.lock(f"guest/{name}", what=f"guest restart {name}", wait=PATIENCE):
        guest = _ready(pair, name)
        running.end(name, 10.0 if force else SHUTDOWN_LIMIT, force=force)
        running.start(pair, guest)


def move(pair: Pair, name: str, say: Callable[[str], None]) -> None:
    """Shut it down here and start it on the peer. Where the peer cannot take it after all, it is started here again.

    Raises GuestError before anything is done where the peer has no room for it.
    """
    with pair.lock(f"guest/{name}", what=f"guest move {name}", wait=PATIENCE):
        guest = _ready(pair, name)
        peer = pair.peer()
        if peer is None:
            raise GuestError(f"{pair.brief.peer} is off")
        running.admit(guest.definition, peer.hypervisor().free_memory, pair.brief.peer)
        if not peer.has_bridge(guest.definition.bridge):
            raise GuestError(f"{pair.brief.peer} has no bridge {guest.definition.bridge}")
        say(f"{name} shuts down on {pair.brief.node}")
        running.end(name, SHUTDOWN_LIMIT)
        say(f"{name} starts on {pair.brief.peer}")
        try:
            peer.start(name)
        except XenpairError as e:
            log.warning("guests: %s did not start on %s: %s", name, pair.brief.peer, e)
            running.start(pair, guest)
            raise GuestError(
                f"{name} runs on {pair.brief.node} again: it did not start on {pair.brief.peer}: {e.message}"
            ) from e


def start_for_peer(pair: Pair, name: str) -> None:
    """Start it here for the peer, which holds the guest's lock on both nodes and has ended it on its side."""
    running.start(pair, _ready(pair, name))


def hindrances(pair: Pair, name: str) -> tuple[str, ...]:
    """What would prevent a live migration from here to the peer; nothing where it would work."""
    guest = _ready(pair, name).definition
    domain = running.here(name)
    if domain is None or domain.ended:
        return (f"{name} does not run on {pair.brief.node}",)
    peer = pair.peer()
    if peer is None:
        return (f"{pair.brief.peer} is off",)
    return obstacles(guest, xl.hypervisor(), peer.hypervisor(), bridge_there=peer.has_bridge(guest.bridge))


def migrate(pair: Pair, name: str) -> None:
    """Move it to the peer while it runs. Raises GuestError with all that prevents it, before anything is done."""
    with pair.lock(f"guest/{name}", what=f"guest migrate {name}", wait=PATIENCE):
        if found_hindrances := hindrances(pair, name):
            raise GuestError(
                f"{name} cannot be migrated live: {'; '.join(found_hindrances)}",
                hint=f"`xenpair guest move {name}` stops it here and starts it there",
            )
        try:
            xl.migrate(name, pair.brief.peer)
        except CommandError as e:
            _after_failed_migration(pair, name, e)


def _after_failed_migration(pair: Pair, name: str, error: CommandError) -> None:
    """xl goes on with the guest where it was, if it can; what it has left half-made on the peer is removed."""
    peer = pair.peer()
    if peer is not None:
        there = running.here(name, peer.domains())
        if there is not None and there.transit:
            peer.clear_transit(name)
        elif there is not None:
            raise GuestError(f"{name} runs on {pair.brief.peer}, though xl reported: {error}") from error
    domain = running.here(name)
    state = f"it is {domain.state} here" if domain else "it runs nowhere now, and will be started anew"
    raise GuestError(f"{name} was not migrated, {state}: {error}") from error


def resize(pair: Pair, name: str, *, disk: int | None, memory: int | None, vcpus: int | None) -> tuple[str, ...]:
    """Give it a larger disk at once, or other memory and CPUs from its next start on; returns what is to be known."""
    notes = []
    with pair.lock(f"guest/{name}", what=f"guest resize {name}", wait=PATIENCE):
        guest = _ready(pair, name).definition
        if disk is not None:
            volumes.resize(pair, name, disk)
            notes.append(
                "the guest sees its larger disk at once; its file system is its own to grow (resize2fs /dev/xvda)"
            )
        changed = replace(guest, memory=memory or guest.memory, vcpus=vcpus or guest.vcpus)
        if changed != guest:
            volumes.retag(pair, guest, changed)
            notes.append(f"memory and CPUs change with its next start: `xenpair guest restart {name}`")
    return tuple(notes)


def delete(pair: Pair, name: str) -> None:
    """Remove the guest and its disk. Raises GuestError while it runs anywhere, or where nobody knows."""
    with pair.lock(f"guest/{name}", what=f"guest delete {name}", wait=PATIENCE):
        found(pair, name)
        if (on := where(pair, name)) is not None:
            raise GuestError(f"{name} runs on {on}", hint=f"`xenpair guest stop {name}` first")
        volumes.remove(pair, name)


def _ready(pair: Pair, name: str) -> Guest:
    guest = found(pair, name)
    if (phase := guest.definition.phase) != "ready":
        raise GuestError(f"{name} is {'being made' if phase == 'making' else 'being deleted'}")
    return guest


def _want(pair: Pair, guest: Guest, wanted: Literal["running", "stopped"]) -> Guest:
    changed = replace(guest.definition, wanted=wanted)
    volumes.retag(pair, guest.definition, changed)
    return replace(guest, definition=changed)
