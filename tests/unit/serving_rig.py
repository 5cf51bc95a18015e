"""A real server on loopback with ports of its own, and a machine that talks to it as the installer does."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from config import secrets
from config.loader import load
from config.machine import Machine
from config.payload import Index, Piece
from images.serving.options import Endpoint, Options
from images.serving.server import Server
from images.serving.tree import FILES

EXAMPLE = Path(__file__).parents[2] / "config" / "cluster.yaml"
XEN1 = {"eth0": "52:54:00:13:20:01", "eth1": "52:54:00:10:32:01"}
OTHER1 = {"eth0": "52:54:00:13:30:01", "eth1": "52:54:00:10:33:01"}
IMAGE = bytes(range(256)) * 40
LOOPBACK = IPv4Address("127.0.0.1")


def write_tree(directory: Path) -> Path:
    """A netboot tree of small files."""
    (directory / "image").mkdir(parents=True)
    for name in FILES:
        (directory / name).write_bytes(name.encode())
    piece = Piece(at=0, size=4096, packed_at=0, packed_size=len(IMAGE), sha256="0" * 64)
    index = Index(key="k", root_uuid="u", disk_size=64 << 20, root_start=2 << 20, pieces=(piece,))
    (directory / "image" / "index.json").write_text(index.to_json())
    (directory / "image" / "image.zst").write_bytes(IMAGE)
    return directory


def write_config(directory: Path, *, other: bool = False) -> Path:
    """The example pair with a file for a guest and its secrets; other: a second pair, of other machines."""
    directory.mkdir(parents=True, exist_ok=True)
    text = EXAMPLE.read_text()
    guest = "guests: [{name: web01, home: xen1, memory: 512M, disk: 1G, install: {tarball: web01.tar}}]"
    text = text.replace("guests: []", guest)
    if other:
        text = text.replace("name: xenpair", "name: other").replace(":10:32:", ":10:33:").replace(":13:20:", ":13:30:")
    path = directory / "cluster.yaml"
    path.write_text(text)
    (directory / "web01.tar").write_bytes(b"tarball" * 1000)
    secrets.ensure(load(path).cluster, directory / "secrets")
    return path


def options(tmp_path: Path, *configs: Path, window: float = 3600) -> Options:
    """Of a server without DHCP on loopback, each of whose ports is any that is free."""
    tree = tmp_path / "netboot"
    return Options(
        configs=configs or (write_config(tmp_path / "config"),),
        tree=tree if tree.exists() else write_tree(tree),
        interface="lo",
        page=Endpoint(LOOPBACK, 0),
        window=window,
        dhcp="none",
        http_port=0,
        tls_port=0,
        authorized_keys="ssh-ed25519 AAAA you@host\n",
    )


@dataclass(frozen=True)
class Answer:
    """Of the server's."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> dict[str, str]:
        """The body as an object."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Client:
    """A machine. It takes the one certificate whose sha256 it was told, and no other."""

    server: Server
    pin: str

    def get(self, path: str, **headers: str) -> Answer:
        """By plain HTTP."""
        return _ask(http.client.HTTPConnection(*self._at(self.server.http), timeout=10), "GET", path, None, headers)

    def page(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Of the web page."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _ask(http.client.HTTPConnection(*self._at(self.server.page), timeout=10), method, path, body, named)

    def secure(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Over TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(*self._at(self.server.tls), timeout=10, context=context)
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        shown = connection.sock.getpeercert(binary_form=True)
        assert shown is not None
        assert hashlib.sha256(shown).hexdigest() == self.pin
        return _ask(connection, method, path, body, headers)

    def hello(self, nics: dict[str, str], **other: str) -> Answer:
        """What an installer says first."""
        return self.secure("POST", "/hello", {"nics": nics, **other})

    def report(self, **fields: object) -> Answer:
        """What an installer says at each step."""
        said = {"machine": XEN1["eth1"], "phase": "installer", "step": "write", "state": "running", "text": ""}
        return self.secure("POST", "/report", {**said, **fields})

    @staticmethod
    def _at(endpoint: Endpoint) -> tuple[str, int]:
        return str(endpoint.address), endpoint.port


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object, headers: dict[str, str]
) -> Answer:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
    finally:
        connection.close()


@contextmanager
def serving(wanted: Options) -> Iterator[Client]:
    """A server that runs meanwhile."""
    server = Server.prepare(wanted, tell=lambda _: None)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    client = Client(server, server.certificate.pin)
    client.page("GET", "/state")
    try:
        yield client
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def closing(wanted: Options) -> Options:
    """The same with a window that closes at once."""
    return replace(wanted, window=0.0)


def machine(nics: dict[str, str], serial: str = "", uuid: str = "") -> Machine:
    """A machine with these cards."""
    return Machine(nics, serial, uuid)
