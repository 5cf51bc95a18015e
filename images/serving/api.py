"""What machines ask and tell over TLS: who they are, what belongs to that, and how far they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from images.serving.board import Board
from images.serving.errors import RefusalError
from images.serving.wire import BODY_LIMIT, Hello, Report, SecretsRequest, parse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A refusal as JSON, with its status."""
    try:
        return await handler(request)
    except RefusalError as refusal:
        return web.json_response({"error": str(refusal)}, status=refusal.status)


class Api:
    """The application."""

    def __init__(self, board: Board, authorized_keys: str) -> None:
        self._board = board
        self._authorized_keys = authorized_keys

    def application(self) -> web.Application:
        """Its paths."""
        made = web.Application(middlewares=[refusals], client_max_size=BODY_LIMIT)
        made.router.add_post("/hello", self._hello)
        made.router.add_get("/files/{name}", self._file)
        made.router.add_post("/secrets", self._secrets)
        made.router.add_post("/report", self._report)
        return made

    async def _hello(self, request: web.Request) -> web.Response:
        welcome = self._board.hello(parse(Hello, await request.read()).machine())
        offer = welcome.place.offer
        return web.json_response(
            {
                "cluster": offer.name,
                "node": welcome.place.node.name,
                "ticket": welcome.ticket,
                "config": offer.config,
                "authorized_keys": self._authorized_keys,
                "files": dict(offer.sums),
            }
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        offer = self._board.file_holder(request.query.get("ticket", ""))
        return web.FileResponse(offer.file(request.match_info["name"]))

    async def _secrets(self, request: web.Request) -> web.Response:
        asked = parse(SecretsRequest, await request.read())
        text = self._board.hand_out(asked.ticket, asked.asker)
        return web.json_response({"secrets": text}, headers={"Cache-Control": "no-store"})

    async def _report(self, request: web.Request) -> web.Response:
        self._board.report(parse(Report, await request.read()))
        return web.Response(status=204)
