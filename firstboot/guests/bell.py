"""The bell: wakes the supervisor at once when something may be for it to do, instead of at its next round."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import subprocess
from types import TracebackType
from typing import Self

from config.door import stream
from firstboot.places import Places

XENSTORE_WATCH = ("xenstore-watch", "@introduceDomain", "@releaseDomain")
"""Prints a line whenever a domain appears, shuts down or goes (docs/misc/xenstore.txt of Xen, special watches)."""

DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""setpriv(1): the supervisor's unit leaves what it has started alone when it stops, for the guests' sake."""


def ring(places: Places) -> None:
    """Wake the supervisor of this node; nothing where none runs."""
    try:
        fd = os.open(places.bell, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENXIO):
            return
        raise
    try:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"!")
    finally:
        os.close(fd)


class Bell:
    """The supervisor's end of it, with Xen's own bell beside it: wait() returns when either rings."""

    def __init__(self, places: Places) -> None:
        self._path = places.bell
        self._fd = -1
        self._xen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._path, 0o600)
        # Open for writing too: else it would be at its end whenever no one rings.
        self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)
        if self._xen is not None:
            self._xen.kill()
            self._xen.wait()

    def wait(self, seconds: float) -> bool:
        """True as soon as it has rung, False after that many seconds."""
        fds = [self._fd, *self._xen_fd()]
        readable = select.select(fds, [], [], seconds)[0]
        for fd in readable:
            with contextlib.suppress(BlockingIOError):
                if not os.read(fd, 4096) and fd != self._fd and self._xen is not None:
                    # It has ended, as it does when xenstored is not there yet; the next round begins it anew.
                    self._xen.wait()
                    self._xen = None
        return bool(readable)

    def _xen_fd(self) -> list[int]:
        if self._xen is None:
            self._xen = stream((*DIES_WITH_US, *XENSTORE_WATCH))
        assert self._xen.stdout is not None  # noqa: S101 -- stream() gives it a pipe
        return [self._xen.stdout.fileno()]
