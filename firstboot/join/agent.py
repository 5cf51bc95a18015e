"""The two ends of the join. The config's first node listens on its cluster address, the second one calls.

The conversation is repeated until this node's storage is up: a node that loses power just after the other has written
down the join finds it still talking. Whoever is refused is named once, with the reason, and the waiting goes on.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from config.model import Cluster, Node
from firstboot.join.facts import Facts, objection
from firstboot.join.wire import Conversation, JoinRefusedError, hello

log = logging.getLogger("xenpair")

TIMEOUT = 30.0
"""Seconds for one message: a node under emulation may need several to answer."""
RETRY = 2.0
"""Seconds between two calls of the second node."""


@dataclass(frozen=True)
class JoinTerms:
    """What this node needs to take part in a join."""

    cluster: Cluster
    me: Node
    peer: Node
    secret: bytes
    facts: Facts


def converse(connection: socket.socket, terms: JoinTerms, *, client: bool) -> Facts:
    """One whole join over a connected socket: the peer's facts. Raises JoinRefusedError, or OSError."""
    connection.settimeout(TIMEOUT)
    conversation = hello(
        connection,
        cluster=terms.cluster.cluster.name,
        node=terms.me.name,
        secret=terms.secret,
        client=client,
    )
    theirs = _exchange(conversation, terms.facts, client=client)
    reason = objection(terms.peer, terms.facts, theirs)
    if reason is not None:
        raise JoinRefusedError(f"{conversation.peer_name}: {reason}")
    return theirs


def _exchange(conversation: Conversation, mine: Facts, *, client: bool) -> Facts:
    if client:
        conversation.send(mine.model_dump())
        theirs = conversation.receive()
    else:
        theirs = conversation.receive()
        conversation.send(mine.model_dump())
    try:
        return Facts.model_validate(theirs)
    except ValidationError as e:
        raise JoinRefusedError(f"{conversation.peer_name}: its statement is not understood: {e}") from e


class JoinAgent:
    """Talks in a thread of its own until stopped, and hands over what the peer states, each time it does."""

    def __init__(
        self, terms: JoinTerms, *, on_facts: Callable[[Facts], None], on_refusal: Callable[[str], None]
    ) -> None:
        self._terms = terms
        self._on_facts = on_facts
        self._on_refusal = on_refusal
        self._refused: set[str] = set()
        self._stop = threading.Event()
        talk = self._listen if terms.cluster.is_first(terms.me.name) else self._call
        self._thread = threading.Thread(target=talk, name="join", daemon=True)

    def start(self) -> None:
        """Begin to listen or to call."""
        self._thread.start()

    def stop(self) -> None:
        """End, within about a second of what the line needs."""
        self._stop.set()
        self._thread.join(timeout=TIMEOUT)

    def _address(self, node: Node) -> tuple[str, int]:
        return str(node.addresses.cluster.ip), self._terms.cluster.network.join_port

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(
                    self._address(self._terms.peer), timeout=5, source_address=(self._address(self._terms.me)[0], 0)
                ) as connection:
                    self._on_facts(converse(connection, self._terms, client=True))
            except JoinRefusedError as e:
                self._refuse(f"{self._address(self._terms.peer)[0]}: {e.message}")
            except ConnectionResetError:
                self._refuse(f"{self._address(self._terms.peer)[0]} hung up on this node; its console says why")
            except OSError as e:
                log.debug("join: %s", e)
            self._stop.wait(RETRY)

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                server = socket.create_server(self._address(self._terms.me))
            except OSError as e:
                log.warning("join: cannot listen on %s: %s", self._address(self._terms.me), e)
                self._stop.wait(RETRY)
                continue
            with server:
                server.settimeout(1)
                self._serve(server)

    def _serve(self, server: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                connection, (address, _) = server.accept()
            except TimeoutError:
                continue
            # A thread each, so that a stranger who connects and says nothing keeps nobody waiting.
            threading.Thread(target=self._answer, args=(connection, str(address)), daemon=True).start()

    def _answer(self, connection: socket.socket, address: str) -> None:
        with connection:
            try:
                if address != self._address(self._terms.peer)[0]:
                    raise JoinRefusedError(f"a stranger: the peer's address is {self._address(self._terms.peer)[0]}")
                self._on_facts(converse(connection, self._terms, client=False))
            except JoinRefusedError as e:
                self._refuse(f"{address}: {e.message}")
            except OSError as e:
                log.debug("join: %s: %s", address, e)

    def _refuse(self, reason: str) -> None:
        if reason not in self._refused:
            self._refused.add(reason)
            self._on_refusal(f"join refused: {reason}")
