"""The web page: every node live, and the one thing that an administrator may want to do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from aiohttp import web

from images.serving.api import Handler, refusals
from images.serving.board import Board
from images.serving.errors import RefusalError
from images.serving.snapshot import Snapshot
from images.serving.wire import BODY_LIMIT, Allow, parse

PAGE = Path(__file__).parent / "page"
ASSETS = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
TOKEN_HEADER = "X-Xenpair-Token"  # noqa: S105 -- its name
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PACE, HEARTBEAT = 0.25, 15.0
"""Seconds between two snapshots at least, and at most: by the latter a browser sees that we are still there."""


class Website:
    """The application. changed() tells those who look that there is something new."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._token = secrets.token_urlsafe(32)
        self._watchers: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Call this where the event loop runs."""
        for event in self._watchers:
            event.set()

    def application(self) -> web.Application:
        """Its paths."""
        made = web.Application(middlewares=[_guard, refusals], client_max_size=BODY_LIMIT)
        made.router.add_get("/", self._index)
        for name in ASSETS:
            made.router.add_get(f"/{name}", self._asset)
        made.router.add_get("/state", self._state)
        made.router.add_get("/events", self._events)
        made.router.add_post("/allow", self._allow)
        return made

    async def _index(self, request: web.Request) -> web.Response:
        token = self._token if _is_local(request) else ""
        text = (PAGE / "index.html").read_text().replace("{{token}}", token)
        return web.Response(text=text, content_type="text/html")

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/")
        return web.Response(body=(PAGE / name).read_bytes(), content_type=ASSETS[name], charset="utf-8")

    async def _state(self, _: web.Request) -> web.Response:
        return web.Response(text=Snapshot.of(self._board).to_json(), content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            while True:
                event.clear()
                await response.write(f"data: {Snapshot.of(self._board).to_json()}\n\n".encode())
                await asyncio.sleep(PACE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), HEARTBEAT)
        except ConnectionResetError:
            return response
        finally:
            self._watchers.discard(event)

    async def _allow(self, request: web.Request) -> web.Response:
        if not _is_local(request):
            raise RefusalError(403, "this can be done on the server itself only", hint="ssh -L 8088:127.0.0.1:8088")
        # A page of somebody else's can neither read the token nor send this header without being asked first.
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self._token.encode()):
            raise RefusalError(403, "the page is from an earlier run of the server", hint="load it again")
        allow = parse(Allow, await request.read())
        self._board.allow(allow.cluster, allow.node)
        return web.Response(status=204)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only who asks for us by address: a name of somebody else's that resolves to us would pass as our own page."""
    name = re.sub(r":[0-9]+$", "", request.host)
    if name != "localhost" and not _is_address(name):
        raise web.HTTPMisdirectedRequest(text="ask for this page by address, or as localhost\n")
    response = await handler(request)
    if not response.prepared:
        response.headers.update(HEADERS)
    return response


def _is_address(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        return False
    return True


def _is_local(request: web.Request) -> bool:
    return IPv4Address(request.remote or "0.0.0.0").is_loopback  # noqa: S104 -- nowhere is not here
