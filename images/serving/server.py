"""The server: everything is checked and taken first, then it serves until its window has closed and all is done."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Self

from aiohttp import web

from images.serving import dnsmasq
from images.serving.api import Api
from images.serving.board import Board
from images.serving.certificate import Certificate
from images.serving.dnsmasq import Dnsmasq, Plan
from images.serving.downloads import Downloads
from images.serving.errors import ServeError
from images.serving.interface import addresses_of, free_range, own_address
from images.serving.ipxe import SCRIPT
from images.serving.listeners import bound, check_free, listen
from images.serving.offer import read_offers
from images.serving.options import Endpoint, Options
from images.serving.tree import check_tree
from images.serving.website import Website
from images.serving.window import Window

_TICK = 0.5
_LAST_WORDS = 20
"""Lines of dnsmasq's that are shown when it has ended."""


@dataclass
class Server:
    """What has been checked and taken. http, tls, page: where it listens."""

    options: Options
    address: IPv4Interface
    board: Board
    certificate: Certificate
    script: str
    """URL of the iPXE script."""
    http: Endpoint
    tls: Endpoint
    page: Endpoint
    dhcp: Plan | None
    """dnsmasq's part; None where it has none."""
    _listeners: tuple[socket.socket, ...]
    _ended: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def prepare(cls, options: Options, tell: Callable[[str], None]) -> Self:
        """Check everything, and take the ports. Raises ConfigError or ServeError."""
        offers = read_offers(options.configs)
        check_tree(options.tree)
        address = own_address(options.interface, options.address)
        if options.dhcp != "none":
            dnsmasq.check_installed()
            check_free(dnsmasq.PORTS, options.interface)
        taken = {address.ip, *addresses_of(offer.cluster for offer in offers)}
        leases = free_range(address.network, taken) if options.dhcp == "full" else None
        certificate = Certificate.ensure(offers[0].source.parent / "secrets")
        wanted = {
            "--http-port": Endpoint(address.ip, options.http_port),
            "--tls-port": Endpoint(address.ip, options.tls_port),
            "--page": options.page,
        }
        with contextlib.ExitStack() as undo:
            listeners = [undo.enter_context(listen(endpoint, option)) for option, endpoint in wanted.items()]
            undo.pop_all()
        http, tls, page = (bound(listener, at) for listener, at in zip(listeners, wanted.values(), strict=True))
        window = Window(time.monotonic() + options.window, time.monotonic)
        board = Board(offers, window, certificate.derived("tickets"), tell=tell)
        script = f"http://{http}/{SCRIPT}"
        plan = None if options.dhcp == "none" else Plan(options.interface, address, script, leases)
        return cls(options, address, board, certificate, script, http, tls, page, plan, tuple(listeners))

    def run(self) -> None:
        """Serve until the window has closed and nothing is under way any more, or until SIGINT, SIGTERM or stop().

        Raises ServeError where dnsmasq ends by itself.
        """
        with contextlib.ExitStack() as stack:
            for listener in self._listeners:
                stack.enter_context(listener)
            child = stack.enter_context(dnsmasq.running(self.dhcp, self.options.tree)) if self.dhcp else None
            asyncio.run(self._serve(child))

    def stop(self) -> None:
        """End run() from another thread."""
        if self._loop is not None and self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

    async def _serve(self, child: Dnsmasq | None) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: then stop() is what ends it
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._ended.set)
        async with self._sites():
            reasons_to_end = [self._ended.wait(), self._watch_window(), *([self._follow(child)] if child else [])]
            tasks = [asyncio.ensure_future(reason) for reason in reasons_to_end]
            ended, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            for task in ended:
                task.result()

    @contextlib.asynccontextmanager
    async def _sites(self) -> AsyncIterator[None]:
        website = Website(self.board)
        self.board.changed = website.changed
        downloads = Downloads(self.board, self.options.tree, self.http, self.tls, self.certificate.pin)
        applications = (downloads.application(), Api(self.board, self.options.authorized_keys).application())
        contexts = (None, self.certificate.context(), None)
        runners = []
        try:
            for application, listener, context in zip(
                (*applications, website.application()), self._listeners, contexts, strict=True
            ):
                runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
                runners.append(runner)
                await runner.setup()
                await web.SockSite(runner, listener, ssl_context=context).start()
            yield
        finally:
            for runner in runners:
                await runner.cleanup()

    async def _watch_window(self) -> None:
        board = self.board
        await asyncio.sleep(board.window.left)
        board.note(board.summary())
        while board.under_way():
            await asyncio.sleep(_TICK)
        board.note("nothing is under way any more; the server ends")

    async def _follow(self, child: Dnsmasq) -> None:
        """Say what dnsmasq says, in other words."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), child.log)
        last, said = list[str](), ""
        while line := (await reader.readline()).decode(errors="replace"):
            last = [*last[-_LAST_WORDS:], line.rstrip()]
            text = dnsmasq.readable(line)
            if text not in ("", said):
                self.board.note(text)
                said = text
        raise ServeError("dnsmasq has ended by itself:\n" + "\n".join(f"  {line}" for line in last))
