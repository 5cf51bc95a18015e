"""The join over real sockets: who is believed, who is refused, and with which words."""

from __future__ import annotations

import json
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.model import Cluster
from firstboot.join.agent import JoinTerms, converse
from firstboot.join.facts import Facts, JoinRecord, objection
from firstboot.join.wire import PROTOCOL, JoinRefusedError, hello
from firstboot.probe.metadata import room
from tests.unit.fake_node import EXAMPLE, REPLICATED, FakeNode, install

SECRET = bytes(range(32))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZha2VrZXlmYWtla2V5ZmFrZWtleWZha2VrZXlmYWtl"


def facts(cluster: Cluster, node: str, **changes: Any) -> Facts:
    values = {
        "node": node,
        "cluster": cluster.cluster.name,
        "config_hash": cluster.config_hash(),
        "version": "0.1.0",
        "drbd": "8.4.11",
        "host_key": KEY,
        "user_key": KEY,
        "partition": "/dev/disk/by-partuuid/11111111-2222-3333-4444-555555555555",
        "size": 1 << 30,
        "fresh": True,
    }
    return Facts.model_validate(values | changes)


def terms(cluster: Cluster, node: str, secret: bytes = SECRET, **changes: Any) -> JoinTerms:
    return JoinTerms(cluster, cluster.node(node), cluster.peer_of(node), secret, facts(cluster, node, **changes))


def both(server: Callable[[socket.socket], Any], client: Callable[[socket.socket], Any]) -> tuple[Any, Any]:
    """What each side of one connection returns or raises."""
    ends = socket.socketpair()
    results: list[Any] = [None, None]

    def play(index: int, side: Callable[[socket.socket], Any]) -> None:
        with ends[index] as connection:
            connection.settimeout(5)
            try:
                results[index] = side(connection)
            except (JoinRefusedError, OSError) as e:
                results[index] = e

    threads = [threading.Thread(target=play, args=(i, side)) for i, side in enumerate((server, client))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return results[0], results[1]


def join(one: JoinTerms, two: JoinTerms) -> tuple[Any, Any]:
    return both(lambda c: converse(c, one, client=False), lambda c: converse(c, two, client=True))


def test_two_nodes_of_one_cluster_learn_each_others_facts(cluster: Cluster) -> None:
    one, two = terms(cluster, "xen1"), terms(cluster, "xen2", fresh=False)
    assert join(one, two) == (two.facts, one.facts)


def test_a_wrong_secret_is_refused_before_anything_is_told(cluster: Cluster) -> None:
    server, client = join(terms(cluster, "xen1"), terms(cluster, "xen2", secret=bytes(32)))
    assert isinstance(server, JoinRefusedError)
    assert "join secret" in server.message
    assert isinstance(client, OSError), "the server hung up without a word of its own"


def test_a_server_that_does_not_hold_the_secret_is_refused(cluster: Cluster) -> None:
    def impostor(connection: socket.socket) -> None:
        # It answers whatever it likes, and cannot make a tag.
        receive(connection)
        send(connection, hello_of(cluster.cluster.name, "xen1"))
        receive(connection)
        send(connection, bytes(32) + b'{"proof": "server"}')

    _, client = both(impostor, lambda c: converse(c, terms(cluster, "xen2"), client=True))
    assert isinstance(client, JoinRefusedError)
    assert "join secret" in client.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config_hash": "0" * 64}, "different config"),
        ({"version": "0.2.0"}, "xenpair-firstboot 0.2.0, here 0.1.0"),
        ({"drbd": "9.2.0"}, "DRBD 9.2.0, here 8.4.11"),
    ],
)
def test_a_peer_that_does_not_fit_is_refused_with_the_reason(
    cluster: Cluster, changes: dict[str, Any], words: str
) -> None:
    server, client = join(terms(cluster, "xen1"), terms(cluster, "xen2", **changes))
    assert isinstance(server, JoinRefusedError)
    assert words in server.message
    assert isinstance(client, JoinRefusedError), "both sides see the same disagreement"


def test_a_node_of_another_cluster_is_refused_by_its_name(cluster: Cluster) -> None:
    other = cluster.model_copy(update={"cluster": cluster.cluster.model_copy(update={"name": "other"})})
    server, client = join(terms(cluster, "xen1"), terms(other, "xen2"))
    assert isinstance(server, JoinRefusedError)
    assert "another cluster: 'other', not 'xenpair'" in server.message
    assert isinstance(client, OSError)


def test_a_third_node_is_no_peer(cluster: Cluster) -> None:
    mine, theirs = facts(cluster, "xen1"), facts(cluster, "xen3")
    assert "says that it is 'xen3'" in str(objection(cluster.node("xen2"), mine, theirs))


def test_a_fresh_disk_smaller_than_the_one_in_use_is_refused(cluster: Cluster) -> None:
    used, fresh = facts(cluster, "xen1", fresh=False, size=2 << 30), facts(cluster, "xen2", size=1 << 30)
    assert "xen2 has room for 1G of data, and xen1 has 2G" in str(objection(cluster.node("xen2"), used, fresh))
    assert "xen2 has room for 1G" in str(objection(cluster.node("xen1"), fresh, used))


@pytest.mark.parametrize(("size", "data"), [(258048 << 10, 264196096), (256 << 20, 524200 * 512)])
def test_what_drbds_metadata_leaves_of_a_device(size: int, data: int) -> None:
    # As /dev/drbd0 was in the lab, and la-size-sect of drbd-dump-md-applied.txt.
    assert room(size) == data


def test_a_survivor_wants_room_for_the_pairs_data_not_for_its_own_larger_disk(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = FakeNode(tmp_path / "node", cluster, EXAMPLE)
    install(node, monkeypatch)
    node.first_boot()
    first = JoinRecord.model_validate_json(node.places.join.read_bytes()).mine
    assert (first.fresh, first.size) == (True, room(1_000_000))
    # As `xenpair replace` does.
    node.places.join.unlink()
    node.places.formed.unlink()
    node.first_boot()
    again = JoinRecord.model_validate_json(node.places.join.read_bytes()).mine
    assert (again.fresh, again.size) == (False, REPLICATED)


def test_a_fresh_disk_as_large_as_the_one_in_use_is_taken(cluster: Cluster) -> None:
    used, fresh = facts(cluster, "xen1", fresh=False), facts(cluster, "xen2")
    assert objection(cluster.node("xen2"), used, fresh) is None


def test_a_recorded_conversation_is_worth_nothing(cluster: Cluster) -> None:
    recorded: list[bytes] = []

    def recording(connection: socket.socket) -> Facts:
        connection_ = Recorder(connection, recorded)
        return converse(connection_, terms(cluster, "xen2"), client=True)  # type: ignore[arg-type]

    both(lambda c: converse(c, terms(cluster, "xen1"), client=False), recording)
    assert recorded

    def replay(connection: socket.socket) -> None:
        for data in recorded:
            connection.sendall(data)
        connection.recv(1 << 16)

    server, _ = both(lambda c: converse(c, terms(cluster, "xen1"), client=False), replay)
    assert isinstance(server, JoinRefusedError)
    assert "join secret" in server.message


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 5) + b"\xff\xfe\xfd\xfc\xfb",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 4) + b"null",
        struct.pack(">I", 60000) + b"[" * 60000,
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 1 << 31),
    ],
)
def test_a_stranger_is_refused_and_gets_no_answer(cluster: Cluster, noise: bytes) -> None:
    def stranger(connection: socket.socket) -> bytes:
        connection.sendall(noise)
        try:
            return connection.recv(1 << 16)
        except ConnectionResetError:
            return b""

    server, answer = both(lambda c: converse(c, terms(cluster, "xen1"), client=False), stranger)
    assert isinstance(server, JoinRefusedError)
    assert "stranger" in server.message
    assert answer == b""


def test_one_flipped_bit_is_refused() -> None:
    def flipping(connection: socket.socket) -> None:
        conversation = hello(connection, cluster="c", node="b", secret=SECRET, client=True)
        inner = Recorder(connection, [])
        inner.flip = True
        conversation._connection = inner  # type: ignore[assignment]
        conversation.send({"a": 1})

    def reading(connection: socket.socket) -> dict[str, Any]:
        return hello(connection, cluster="c", node="a", secret=SECRET, client=False).receive()

    server, _ = both(reading, flipping)
    assert isinstance(server, JoinRefusedError)


class Recorder:
    """A socket that keeps what is sent, and can flip the last bit of it."""

    def __init__(self, connection: socket.socket, into: list[bytes]) -> None:
        self._connection, self._into, self.flip = connection, into, False

    def sendall(self, data: bytes) -> None:
        if self.flip:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self._into.append(data)
        self._connection.sendall(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def hello_of(cluster: str, node: str) -> bytes:
    return json.dumps({"protocol": PROTOCOL, "cluster": cluster, "node": node, "nonce": secrets.token_hex(32)}).encode()


def send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(struct.pack(">I", len(body)) + body)


def receive(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">I", connection.recv(4))
    return connection.recv(length)
