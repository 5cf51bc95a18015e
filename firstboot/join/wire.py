"""A conversation between two holders of the same secret, over any socket.

Each side sends a hello in the clear (protocol, cluster, node, 32 random bytes). From the secret and both hellos each
derives two keys, one a direction; every later frame carries an HMAC-SHA256 over its number and body, and a frame that
does not verify is never parsed. The client proves itself first, so a stranger who connects learns a host name and
nothing else. Fresh random bytes on both sides make a recorded conversation worthless. What is said is public (keys,
sizes, versions), so it is authenticated and not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
from typing import Any

from firstboot.errors import NodeError

PROTOCOL = "xenpair-join-1"
MAX_FRAME = 64 << 10
"""Bytes; a join message is about 1 KiB."""


class JoinRefusedError(NodeError):
    """The other side is not the peer that the config means; the message says why."""


class Conversation:
    """An authenticated conversation. hello() makes it, and raises JoinRefusedError where the other is a stranger."""

    def __init__(self, connection: socket.socket, peer_name: str, sending: bytes, receiving: bytes) -> None:
        self._connection = connection
        self._keys = (sending, receiving)
        self._sent = self._received = 0
        self.peer_name = peer_name

    def send(self, message: dict[str, Any]) -> None:
        """Send a JSON object with its proof."""
        body = json.dumps(message).encode()
        _send_frame(self._connection, _tag(self._keys[0], self._sent, body) + body)
        self._sent += 1

    def receive(self) -> dict[str, Any]:
        """The next JSON object, verified before it is looked at."""
        frame = _receive_frame(self._connection)
        tag, body = frame[:32], frame[32:]
        if not hmac.compare_digest(tag, _tag(self._keys[1], self._received, body)):
            raise JoinRefusedError(f"{self.peer_name!r} does not hold this cluster's join secret")
        self._received += 1
        return _parse(body)


def hello(connection: socket.socket, *, cluster: str, node: str, secret: bytes, client: bool) -> Conversation:
    """Open a conversation: exchange hellos and proofs. Raises JoinRefusedError, or OSError where the line breaks."""
    mine = json.dumps({"protocol": PROTOCOL, "cluster": cluster, "node": node, "nonce": secrets.token_hex(32)}).encode()
    if client:
        _send_frame(connection, mine)
        theirs = _receive_frame(connection)
    else:
        theirs = _receive_frame(connection)
    said = _parse(theirs)
    if said.get("protocol") != PROTOCOL:
        raise JoinRefusedError(f"a stranger that speaks {str(said.get('protocol'))[:40]!r}, not {PROTOCOL}")
    if said.get("cluster") != cluster:
        raise JoinRefusedError(f"a node of another cluster: {str(said.get('cluster'))[:40]!r}, not {cluster!r}")
    if not client:
        # Only a caller that at least claims to be of our cluster gets an answer.
        _send_frame(connection, mine)
    first, second = (mine, theirs) if client else (theirs, mine)
    base = hmac.digest(
        secret, PROTOCOL.encode() + hashlib.sha256(first).digest() + hashlib.sha256(second).digest(), "sha256"
    )
    keys = {role: hmac.digest(base, role.encode(), "sha256") for role in ("client", "server")}
    me, other = ("client", "server") if client else ("server", "client")
    conversation = Conversation(connection, str(said.get("node"))[:64], keys[me], keys[other])
    if client:
        conversation.send({"proof": "client"})
        conversation.receive()
    else:
        conversation.receive()
        conversation.send({"proof": "server"})
    return conversation


def _tag(key: bytes, number: int, body: bytes) -> bytes:
    return hmac.digest(key, struct.pack(">Q", number) + body, "sha256")


def _send_frame(connection: socket.socket, body: bytes) -> None:
    connection.sendall(struct.pack(">I", len(body)) + body)


def _receive_frame(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">I", _receive_exactly(connection, 4))
    if length > MAX_FRAME:
        raise JoinRefusedError("a stranger: what it sent is no join message")
    return _receive_exactly(connection, length)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            raise ConnectionResetError("the other side hung up")
        data += chunk
    return data


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise JoinRefusedError("a stranger: what it sent is no join message") from e
    if not isinstance(message, dict):
        raise JoinRefusedError("a stranger: what it sent is no join message")
    return message
