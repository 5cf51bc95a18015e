"""Changes of the volume group: by this module alone, on one node at a time, with the peer watching.

LVM on two nodes knows nothing of the other one. So each change is made under a lock on both, right after both have
shown that they see the same metadata, and again after it. A volume is marked before it is usable and before it goes:
what a dead owner has left half-made, settle() removes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from config.capacity import volume_size
from config.errors import XenpairError
from firstboot import lvm, observe
from firstboot.errors import GuestError, LockedError, NotNowError, PeerError, StorageError
from firstboot.guests.definition import MARK, Definition, Guest, to_tags
from firstboot.guests.pair import Pair
from firstboot.guests.registry import guests_of, logical_volumes, registry
from firstboot.guests.side import PeerSide
from firstboot.plan.survival import note_obstacle, shared_change_obstacle

log = logging.getLogger("xenpair")

LOCK = "volumes"
PATIENCE = 900.0
"""Seconds to wait for others' changes of the group. Each takes a second or two, on a starved node half a minute; who
waits has no place in a queue, so with many at once somebody may be passed over many times."""


def tool(command: str) -> str:
    """LVM's own command: first in the PATH stands what keeps people from changing the group by hand."""
    return f"/usr/sbin/{command}"


def create(pair: Pair, definition: Definition, size: int) -> None:
    """Make the guest's volume, of size bytes or a little more, in phase making, and make it usable on both nodes.

    Raises GuestError where it cannot be had, with nothing changed; StorageError, PeerError, CommandError where it
    failed: what was begun is then removed, here or by the next settle().
    """
    name, group = definition.name, pair.brief.volume_group
    tags = _tags(replace(definition, phase="making"))
    with _shared_change(pair, f"guest create {name}") as change:
        if name in {volume.name for volume in logical_volumes(group)}:
            raise GuestError(f"there is a volume {group}/{name} already", hint="`xenpair guest list` shows the guests")
        rounded = volume_size(size)
        _check_room(pair, rounded, f"a disk of {rounded >> 20}M")
        words = [word for tag in tags for word in ("--addtag", tag)]
        wipe = ["--yes", "--wipesignatures", "y", "--zero", "y"]
        try:
            change.make("lvcreate", *wipe, "--size", f"{rounded}b", "--name", name, *words, group)
            change.peer.activate(name)
        except XenpairError:
            with suppress(XenpairError):
                _remove(change, name)
            raise


def finish(pair: Pair, definition: Definition) -> None:
    """The guest's disk is filled: from now on it is a guest like any other."""
    retag(pair, replace(definition, phase="making"), replace(definition, phase="ready"))


def resize(pair: Pair, name: str, size: int) -> None:
    """Let the guest's volume grow to size bytes or a little more, on both nodes.

    To the size that it has already, it is only loaded anew: so a resize that was cut short is finished by saying it
    again. Raises GuestError where it would shrink or there is no room.
    """
    with _shared_change(pair, f"guest resize {name}") as change:
        guest = _found(pair, name)
        rounded = volume_size(size)
        if rounded < guest.size:
            raise GuestError(
                f"the disk of {name} has {guest.size >> 20}M, and {rounded >> 20}M would cut off its end",
                hint="a disk only grows; for a smaller one make a new guest and copy what is in it",
            )
        if rounded > guest.size:
            _check_room(pair, rounded - guest.size, f"a disk that is {rounded - guest.size >> 20}M larger")
            change.make("lvextend", "--size", f"{rounded}b", f"{pair.brief.volume_group}/{name}")
        change.peer.refresh(name)
        pair.here.refresh(name)


def remove(pair: Pair, name: str) -> None:
    """Remove the guest's volume. The caller holds the guest's lock, and knows that it runs nowhere."""
    with _shared_change(pair, f"guest delete {name}") as change:
        _remove(change, name)


def retag(pair: Pair, old: Definition, new: Definition) -> None:
    """Change what is noted of a guest; also on the survivor of a proven loss. The caller holds the guest's lock.

    Raises GuestError where the guest is not as old says, or new cannot be noted.
    """
    _tags(new)
    if old.name != new.name:
        raise GuestError(f"{old.name} cannot become {new.name}: a guest is its volume")
    with _note(pair, f"note of guest {old.name}") as change:
        now = _found(pair, old.name).definition
        if set(to_tags(now)) != set(to_tags(old)):
            raise GuestError(f"{old.name} has been changed by somebody else meanwhile", hint="look, and try again")
        _retag(change, now, new)


def settle(pair: Pair) -> None:
    """Remove every volume that is marked as being made or deleted and that nobody is at any more.

    One that cannot be removed now keeps nobody from anything: it is told in the log, and tried again by the next call.
    """
    for name in [guest.name for guest in registry(pair.brief.volume_group) if guest.definition.phase != "ready"]:
        with ExitStack() as stack:
            try:
                # Whoever makes or deletes a guest holds its lock for as long as he lives.
                stack.enter_context(pair.lock(f"guest/{name}", what=f"removal of what is left of {name}", wait=0))
            except LockedError:
                continue
            found = [guest for guest in registry(pair.brief.volume_group) if guest.name == name]
            if found and found[0].definition.phase != "ready":
                try:
                    remove(pair, name)
                except XenpairError as e:
                    log.warning("guests: %s was left %s, and stays for now: %s", name, found[0].definition.phase, e)
                else:
                    log.warning("guests: %s was left %s: removed", name, found[0].definition.phase)


class _Change:
    """Changes of the metadata while the lock is held. other: the peer, where it sees the metadata too."""

    def __init__(self, pair: Pair, what: str, obstacle: Callable[[], str], other: PeerSide | None) -> None:
        self.pair = pair
        self._what, self._obstacle, self._other = what, obstacle, other

    @property
    def peer(self) -> PeerSide:
        """Raises PeerError where the peer takes no part."""
        if self._other is None:
            raise PeerError(f"{self.pair.brief.peer} takes no part in this: {self._what}")
        return self._other

    def make(self, command: str, *words: str) -> None:
        """One change, by one of LVM's commands, between two looks at both nodes.

        Raises GuestError, PeerError or StorageError before it, with nothing changed, and StorageError after it.
        """
        self.pair.verify()
        _refuse(self._what, self._obstacle())
        self._compare()
        lvm.change(tool(command), *words)
        self._compare()

    def _compare(self) -> None:
        if self._other is None:
            return
        mine, theirs = self.pair.here.seqno(), self._other.seqno()
        if mine != theirs:
            brief = self.pair.brief
            raise StorageError(
                f"the nodes see different metadata of {brief.volume_group}: change {mine} on {brief.node}, {theirs} on "
                f"{brief.peer}",
                hint=f"change nothing; compare `vgs -o +vg_seqno {brief.volume_group}` and `pvs` on both nodes",
            )


@contextmanager
def _shared_change(pair: Pair, what: str) -> Iterator[_Change]:
    """For what both nodes take part in."""

    def obstacle() -> str:
        return shared_change_obstacle(observe.drbd())

    _refuse(what, obstacle())
    with pair.lock(LOCK, what=what, wait=PATIENCE, waiting=log.info):
        _refuse(what, obstacle())
        yield _Change(pair, what, obstacle, pair.peer())


@contextmanager
def _note(pair: Pair, what: str) -> Iterator[_Change]:
    """For a tag, which matters to the peer only when it reads it."""

    def obstacle() -> str:
        return note_obstacle(observe.drbd(), pair.state())

    _refuse(what, obstacle())
    with pair.lock(LOCK, what=what, wait=PATIENCE, waiting=log.info):
        _refuse(what, obstacle())
        # A Secondary cannot even read the metadata.
        yield _Change(pair, what, obstacle, pair.peer() if observe.drbd().peer_role == "Primary" else None)


def _refuse(what: str, reason: str) -> None:
    if reason:
        raise NotNowError(
            f"{what} is not possible now: {reason}", hint="`xenpair status` says what is to be done about that"
        )


def _retag(change: _Change, old: Definition, new: Definition) -> None:
    before, after = to_tags(old), to_tags(new)
    words = [word for tag in before if tag not in after for word in ("--deltag", tag)]
    words += [word for tag in after if tag not in before for word in ("--addtag", tag)]
    if words:
        change.make("lvchange", *words, f"{change.pair.brief.volume_group}/{old.name}")


def _remove(change: _Change, name: str) -> None:
    guest = _found(change.pair, name).definition
    # First of all, so that it is known for what it is if this ends here.
    _retag(change, guest, replace(guest, phase="deleting"))
    change.peer.deactivate(name)
    change.pair.here.deactivate(name)
    change.make("lvremove", "--yes", f"{change.pair.brief.volume_group}/{name}")


def _found(pair: Pair, name: str) -> Guest:
    """Raises GuestError where there is no such volume, or where it is no guest's, so that it is nobody's to touch."""
    found = [volume for volume in logical_volumes(pair.brief.volume_group) if volume.name == name]
    guests = guests_of(tuple(found))
    if guests:
        return guests[0]
    if found:
        raise GuestError(f"the volume {name} belongs to no guest: it has no tag {MARK}")
    raise GuestError(f"there is no guest {name}", hint="`xenpair guest list` shows the guests")


def _check_room(pair: Pair, size: int, what: str) -> None:
    group = observe.volume_groups().get(pair.brief.volume_group)
    free = group.free if group else 0
    if size > free:
        raise GuestError(
            f"there is no room for {what}: {free >> 20}M are free in {pair.brief.volume_group}",
            hint="ask for less, or delete a guest that is not needed",
        )


def _tags(definition: Definition) -> tuple[str, ...]:
    try:
        return to_tags(definition)
    except ValueError as e:
        raise GuestError(f"{definition.name}: {e}", hint="write less, or put it into a file on both nodes") from e
