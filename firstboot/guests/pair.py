"""The pair as one node has it: this side, the peer's, and locks that hold on both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from firstboot import observe
from firstboot.brief import Brief
from firstboot.errors import PeerError
from firstboot.guests.locks import Owner, Patience, take
from firstboot.guests.peer import PeerSession
from firstboot.guests.side import LocalSide, PeerSide
from firstboot.places import Places
from firstboot.plan.survival import PeerState, in_words, peer_state


@dataclass(frozen=True)
class Held:
    """A lock that is held. session: the one in which the peer holds its half; None where the peer was proven off."""

    pair: Pair
    name: str
    session: PeerSession | None

    def check(self) -> None:
        """Raises PeerError where the peer's half is gone, or where the peer came back after this lock was taken."""
        peer = self.pair.brief.peer
        if self.session is None:
            if self.pair.state() != "off":
                raise PeerError(f"{peer} came back while {self.name} was held here alone", hint="try again")
        elif not self.session.alive or not self.session.ask("hold?", name=self.name):
            raise PeerError(f"{peer} does not hold its half of {self.name} any more", hint="try again")


class Pair:
    """A session with the peer is opened when it is first needed, and kept until close() or the end of the context."""

    def __init__(
        self,
        brief: Brief,
        places: Places,
        *,
        connect: Callable[[Brief], PeerSession] = PeerSession.by_ssh,
    ) -> None:
        self.brief = brief
        self.places = places
        self.here = LocalSide(brief, places)
        self._connect = connect
        self._session: PeerSession | None = None
        self._held: list[Held] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the session with the peer, if there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def state(self) -> PeerState:
        """What DRBD says of the peer now."""
        return peer_state(observe.drbd(), split=self.places.split_brain.exists())

    def peer(self) -> PeerSide | None:
        """The peer, or None where it is proven off. Raises PeerError where nobody knows, or it does not answer."""
        return None if self._known_off() else PeerSide(self._open())

    def _known_off(self) -> bool:
        drbd = observe.drbd()
        state = peer_state(drbd, split=self.places.split_brain.exists())
        if state == "unknown":
            raise PeerError(f"nothing is known of {self.brief.peer}: {in_words(drbd)}", hint="see `xenpair status`")
        return state == "off"

    def _open(self) -> PeerSession:
        if self._session is not None and not self._session.alive:
            lost = [held.name for held in self._held if held.session is self._session]
            if lost:
                # A new session would hide that whatever these locks kept apart is not kept apart any more.
                raise PeerError(f"{self.brief.peer} has let go of {' and '.join(lost)}: its session has ended")
            self.close()
        if self._session is None:
            self._session = self._connect(self.brief)
        return self._session

    @contextmanager
    def lock(
        self, name: str, *, what: str, wait: float, waiting: Callable[[str], None] = lambda _: None
    ) -> Iterator[Held]:
        """Hold a lock on both nodes; on this one alone where the peer is proven off.

        what: shown to others who want it; wait: seconds; waiting is told once, after a while, who has it. Not to be
        taken twice by one process. Raises LockedError where somebody still has it, PeerError where nothing is known of
        the peer.
        """
        off = self._known_off()
        patience = Patience(wait, waiting)
        with ExitStack() as stack:
            session = None

            def own() -> None:
                owner = Owner(self.brief.node, os.getpid(), what)
                stack.callback(patience.until(lambda: take(self.places, name, owner)).release)

            def peers() -> PeerSession:
                there = self._open()
                patience.until(lambda: there.ask("lock", name=name, pid=os.getpid(), what=what))
                stack.callback(_unlock, there, name)
                return there

            # Whoever waits takes the first node's half first, on either node, so no two wait for each other. Who does
            # not wait cannot be waited for, and spares the peer the question where this side's half is taken.
            if off:
                own()
            elif self.brief.first or wait == 0:
                own()
                session = peers()
            else:
                session = peers()
                own()
            held = Held(self, name, session)
            if off:
                # That may have taken a while.
                held.check()
            self._held.append(held)
            stack.callback(self._held.remove, held)
            yield held

    def verify(self) -> None:
        """Right before what cannot be undone. Raises PeerError where a lock that is held has lost its other half."""
        for held in self._held:
            held.check()


def _unlock(session: PeerSession, name: str) -> None:
    with suppress(PeerError):
        session.ask("unlock", name=name)
