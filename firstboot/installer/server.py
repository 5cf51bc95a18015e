"""Installation over the network: the image by plain HTTP, for it is signed; all that is a secret by pinned TLS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config import payload, secrets
from config.door import PIECE, store_file, write_file
from config.loader import load
from config.machine import Machine
from firstboot.errors import InstallError
from firstboot.installer.arguments import FromServer
from firstboot.installer.download import PATIENCE, PAUSES, Download, to_host
from firstboot.installer.source import Assignment, Stream
from firstboot.pinned import AwayError, PinnedServer
from firstboot.places import Places
from firstboot.steps.seed import Seed

MOST_OF_INDEX = 16 << 20
"""Bytes: some 150 for each piece, of which a disk has a few thousand."""


class Hello(BaseModel):
    """The server's answer to a machine that it knows. files: sha256 (hex) by name; ticket: proves this answer."""

    model_config = ConfigDict(frozen=True)

    cluster: str
    node: str
    ticket: str = Field(repr=False)
    config: str
    authorized_keys: str = ""
    files: dict[str, payload.Sha256] = {}


class Server:
    """One server. scratch: a directory for the config that it gives; heard: is told the ticket."""

    def __init__(
        self, origin: FromServer, scratch: Path, waiting: Callable[[str], None], heard: Callable[[str], None]
    ) -> None:
        self._origin = origin
        self._scratch = scratch
        self._waiting = waiting
        self._heard = heard
        self._server = PinnedServer(origin.url, origin.pin)
        self._hello: Hello | None = None

    def identify(self, machine: Machine) -> Assignment:
        """The server knows the configs, and says which node this machine is."""
        question = {"nics": dict(machine.nics), "serial": machine.serial, "uuid": machine.uuid}
        try:
            hello = Hello.model_validate(self._ask("/hello", question))
        except ValidationError as e:
            error = e.errors()[0]
            place = ".".join(map(str, error["loc"]))
            raise InstallError(
                f"{self._origin.url}/hello answers what is not understood: {place}: {error['msg']}"
            ) from e
        config = self._scratch / "cluster.yaml"
        write_file(config, hello.config, mode=0o600)
        cluster = load(config).cluster
        try:
            node = cluster.node(hello.node)
        except KeyError:
            raise InstallError(f"{self._origin.url} calls this machine {hello.node}, which its config lacks") from None
        self._hello = hello
        self._heard(hello.ticket)
        return Assignment(cluster, node)

    def index(self) -> bytes:
        """By HTTP."""
        return self._fetch(payload.INDEX).read(MOST_OF_INDEX)

    def signature(self) -> bytes:
        """By HTTP."""
        return self._fetch(payload.SIGNATURE).read(MOST_OF_INDEX)

    def image(self, size: int) -> Stream:
        """By HTTP; where it breaks off, it goes on."""
        return self._fetch(payload.IMAGE, size)

    def hand_over(self, places: Places, waiting: Callable[[str], None]) -> None:
        """The secrets come last, for they are given once."""
        hello = self._known()
        for name, total in hello.files.items():
            waiting(f"fetching {name} from the server")
            store_file(self._pieces(name, hello.ticket), places.files / name, sha256=total, name=name, mode=0o600)
        report = {"server": self._origin.url, "pin": self._origin.pin, "ticket": hello.ticket}
        write_file(places.reporting, json.dumps(report) + "\n", mode=0o600)
        # Made up here, so that an answer that is lost on its way can be had again, and by nobody else.
        question = {"ticket": hello.ticket, "asker": token_hex(16)}
        content = str(self._ask("/secrets", question).get("secrets", "")).encode()
        secrets.parse(content, f"{self._origin.url}/secrets")
        config, keys = hello.config.encode(), hello.authorized_keys.encode()
        Seed(load(self._scratch / "cluster.yaml").cluster, config, content, keys, hello.files).keep(places)

    def _known(self) -> Hello:
        if self._hello is None:
            raise InstallError("the server has not been asked yet which node this machine is")
        return self._hello

    def _fetch(self, name: str, size: int | None = None) -> Download:
        url = f"{self._origin.image}/{name}"
        return Download(to_host(url), urlsplit(url).path, url, size=size, waiting=self._waiting)

    def _pieces(self, name: str, ticket: str) -> Iterator[bytes]:
        path = f"/files/{quote(name)}?{urlencode({'ticket': ticket})}"
        where = f"{self._origin.url}/files/{name}"
        download = Download(self._server.connection, path, where, size=None, waiting=self._waiting)
        buffer = memoryview(bytearray(PIECE))
        while count := download.readinto(buffer):
            yield bytes(buffer[:count])

    def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        """Again and again while the server is away; a no is final."""
        deadline, tries = time.monotonic() + PATIENCE, 0
        while True:
            try:
                return self._server.ask(path, question)
            except AwayError as e:
                if time.monotonic() > deadline:
                    raise
                self._waiting(f"{e.message}; trying again")
                time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
