"""What machines load by plain HTTP: iPXE's scripts, the installer, and the image, which is signed."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from aiohttp import web

from images import preseed
from images.serving import ipxe
from images.serving.board import Board
from images.serving.options import Endpoint
from images.serving.tree import FILES

_HOST = re.compile(r"(?P<address>[0-9.]{7,15})(:(?P<port>[0-9]{1,5}))?")
_WORD = 128
"""Characters of a word in a query; DMI's strings are shorter (SMBIOS 3.6, 6.1.3)."""


class Downloads:
    """The application. http, tls: where machines reach us, as far as we know."""

    def __init__(self, board: Board, tree: Path, http: Endpoint, tls: Endpoint, pin: str) -> None:
        self._board = board
        self._tree = tree
        self._http = http
        self._tls = tls
        self._pin = pin

    def application(self) -> web.Application:
        """Every path that there is: a file of the tree that is none of these is not served.

        What stands beside the tree for Debian's own installer is: none of it is secret.
        """
        made = web.Application()
        made.router.add_get(f"/{ipxe.SCRIPT}", self._script)
        for name in FILES:
            made.router.add_get(f"/{name}", self._file)
        if (answers := self._tree.resolve().parent / preseed.DIRECTORY).is_dir():
            made.router.add_static(f"/{preseed.DIRECTORY}/", answers)
        return made

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(self._tree / request.path.removeprefix("/"))

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=self._script_for(request), headers={"Cache-Control": "no-store"})

    def _script_for(self, request: web.Request) -> str:
        query = request.query
        if "mac" not in query:
            return ipxe.ask()
        mac, uuid, serial = (query.get(name, "")[:_WORD] for name in ("mac", "uuid", "serial"))
        if reason := self._board.boot(ipxe.machine(mac, uuid, serial)):
            return ipxe.own_disk(reason)
        http, tls = self._as_reached(request)
        return ipxe.install(http, tls, self._pin)

    def _as_reached(self, request: web.Request) -> tuple[Endpoint, Endpoint]:
        """Our addresses as this machine knows them: it may reach us through a gateway that translates."""
        host = _HOST.fullmatch(request.headers.get("Host", ""))
        try:
            address = IPv4Address(host["address"]) if host else self._http.address
        except AddressValueError:
            address = self._http.address
        port = int(host["port"] or 80) if host else self._http.port
        return Endpoint(address, port), Endpoint(address, self._tls.port)
