"""A file on a web server, read from its beginning to its end, however often the connection breaks on the way."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from config.sizes import format_size
from firstboot.errors import InstallError, RefusedError
from firstboot.pinned import AGAIN, AwayError, refusal

PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds before each next try; the last one again and again."""
PATIENCE = 3600.0
"""Seconds without one byte after which it is given up."""
TIMEOUT = 20.0
"""Seconds without a byte after which a connection counts as broken."""
MOST_OF_REFUSAL = 4096

Connect = Callable[[float], http.client.HTTPConnection]
"""Makes a connection of that timeout (seconds)."""


def to_host(url: str) -> Connect:
    """Plain HTTP, to the host of a URL."""
    parts = urlsplit(url)
    return lambda timeout: http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)


class Download:
    """A stream of bytes. name: what messages call it; size: bytes that it has, None where that is not known.

    waiting is told of each break. Reading raises RefusedError where the server says no, InstallError where it has
    another file of that name, AwayError where it was away for too long.
    """

    def __init__(
        self, connect: Connect, path: str, name: str, *, size: int | None, waiting: Callable[[str], None]
    ) -> None:
        self._connect = connect
        self._path = path
        self._name = name
        self._size = size
        self._waiting = waiting
        self._at = 0
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._closed = False

    def readinto(self, buffer: memoryview) -> int:
        """As many bytes as there are at once, at least one; 0 at the end."""
        if self._size is not None and self._at >= self._size:
            return 0
        deadline, tries = time.monotonic() + PATIENCE, 0
        while True:
            try:
                count = self._read_once(buffer)
            except (OSError, http.client.HTTPException, AwayError) as e:
                self._drop()
                if self._closed or time.monotonic() > deadline:
                    raise AwayError(
                        f"{self._name} cannot be had: {_words(e)}", hint="is `invoke serve` still running there?"
                    ) from e
                self._waiting(f"{self._name} broke off ({_words(e)}); going on {self._place()}")
                time.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
            else:
                self._at += count
                return count

    def read(self, limit: int) -> bytes:
        """All of it. Raises InstallError where it has more bytes than that."""
        found = bytearray()
        buffer = memoryview(bytearray(64 << 10))
        while count := self.readinto(buffer):
            found += buffer[:count]
            if len(found) > limit:
                raise InstallError(f"{self._name} has more than {format_size(limit)}")
        return bytes(found)

    def close(self) -> None:
        """Also while another thread reads: it stops at its next try."""
        self._closed = True
        self._drop()

    def _place(self) -> str:
        return "from the beginning" if not self._at else f"behind {self._at >> 20}M" + self._of()

    def _of(self) -> str:
        return f" of {self._size >> 20}M" if self._size else ""

    def _read_once(self, buffer: memoryview) -> int:
        response = self._response or self._open()
        count = response.readinto(buffer)
        if not count and self._size is not None:
            raise AwayError("the connection was closed")
        return count

    def _open(self) -> http.client.HTTPResponse:
        self._connection = self._connect(TIMEOUT)
        self._connection.request("GET", self._path, headers={"Range": f"bytes={self._at}-"} if self._at else {})
        response = self._connection.getresponse()
        if response.status in AGAIN:
            raise AwayError(f"it answers {response.status} {response.reason}")
        if response.status not in (200, 206):
            raise RefusedError(refusal(self._name, response.status, response.read(MOST_OF_REFUSAL)))
        begin, size = _extent(response)
        if size is not None:
            if self._size is not None and size != self._size:
                raise InstallError(
                    f"{self._name} has {size} bytes, and should have {self._size}",
                    hint="the server has another image now: boot this machine again",
                )
            self._size = size
        _skip(response, self._at - begin)
        self._response = response
        return response

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
        self._connection = self._response = None


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where an answer begins in its file, and how many bytes that file has, if it says so (RFC 9110, section 14.4)."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.getheader("Content-Range", ""))
        if match is None:
            raise AwayError("it answers with a part that it does not describe")
        return int(match[1]), int(match[2])
    length = response.getheader("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _skip(response: http.client.HTTPResponse, count: int) -> None:
    """Past what is there already, where the server knows no ranges."""
    if count < 0:
        raise AwayError("it answers with another part than was asked for")
    while count:
        passed = len(response.read(min(count, 1 << 20)))
        if not passed:
            raise AwayError("the connection was closed")
        count -= passed


def _words(e: Exception) -> str:
    if isinstance(e, AwayError):
        return e.message
    return (e.strerror if isinstance(e, OSError) and e.strerror else str(e)) or type(e).__name__
