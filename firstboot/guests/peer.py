"""A session with the peer: `xenpair peer` at the other end of SSH answers what is asked, and holds its node's half of
locks. It ends with the session, and a session that hears nothing ends by itself (sshd's ClientAliveInterval).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from config.door import kill_group, stream
from config.errors import CommandError, XenpairError
from firstboot import ssh
from firstboot.brief import Brief
from firstboot.errors import NodeError, PeerError
from firstboot.guests import wire
from firstboot.guests.locks import Half, Owner, take
from firstboot.guests.side import LocalSide
from firstboot.places import Places

ANSWER_LIMIT = 60.0
"""Seconds for one answer, the making of the connection included, unless the question says otherwise."""

CLOSE_LIMIT = 2.0
"""Seconds for ssh to end by itself once it has nothing more to say."""


class PeerSession:
    """The asking end. What goes wrong in it ends it: what the peer said afterwards would answer another question."""

    def __init__(self, peer: str, argv: Sequence[str]) -> None:
        self.peer = peer
        self._buffer = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- open for as long as the session
        try:
            self._process = stream(argv, talk=True, errors=self._errors)
        except CommandError as e:
            self._errors.close()
            raise PeerError(f"{peer} cannot be asked: {e.message}") from e

    @classmethod
    def by_ssh(cls, brief: Brief) -> PeerSession:
        """With the peer of this node."""
        return cls(brief.peer, ssh.to_peer(brief.peer, "peer"))

    @property
    def alive(self) -> bool:
        """Whether it is there still, as far as this end knows."""
        return not self._errors.closed and self._process.poll() is None

    def ask(self, what: str, timeout: float = ANSWER_LIMIT, /, **args: object) -> Any:
        """What the peer answers within timeout seconds.

        Raises PeerError where no answer comes, or what was asked failed there; LockedError, GuestError, HeldError or
        StorageError where the peer says that.
        """
        if self._errors.closed:
            raise PeerError(f"the session with {self.peer} has ended")
        try:
            line = self._converse(wire.request(what, args).encode(), time.monotonic() + timeout)
            answer = wire.parse_answer(line, self.peer)
        except TimeoutError:
            self.close()
            raise PeerError(f"{self.peer} did not answer within {timeout:.0f} s ({what})") from None
        except BaseException:
            self.close()
            raise
        return wire.value(answer, self.peer)

    def _converse(self, request: bytes, deadline: float) -> str:
        assert self._process.stdin is not None  # noqa: S101 -- both are pipes
        assert self._process.stdout is not None  # noqa: S101
        try:
            os.write(self._process.stdin.fileno(), request)
        except BrokenPipeError:
            raise self._no_answer() from None
        out = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            read = os.read(out, 1 << 16)
            self._buffer += read
            if not read or len(self._buffer) > wire.LINE_LIMIT:
                raise self._no_answer()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _no_answer(self) -> PeerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_LIMIT)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        words = "; ".join(line.strip() for line in lines[-3:]) or "it has ended the session"
        return PeerError(
            f"{self.peer} does not answer: {words}", hint=f"`ssh {self.peer} xenpair status` asks it by hand"
        )

    def close(self) -> None:
        """End it, and with it the peer's halves of the locks that it holds. Once more does nothing."""
        if self._errors.closed:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # noqa: S101
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(CLOSE_LIMIT)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
        self._errors.close()


class _Args:
    """Arguments of a request, which anybody may have written. Raises NodeError for what they lack."""

    def __init__(self, what: str, raw: dict[str, Any]) -> None:
        self._what, self._raw = what, raw

    def text(self, key: str) -> str:
        found = self._raw.get(key)
        if not isinstance(found, str) or not found or not found.isprintable():
            raise NodeError(f"{self._what}: {key} is {json.dumps(found)[:80]}, and should be a text")
        return found

    def number(self, key: str) -> int:
        found = self._raw.get(key)
        if type(found) is not int:
            raise NodeError(f"{self._what}: {key} is {json.dumps(found)[:80]}, and should be a number")
        return found

    def texts(self, key: str) -> list[str]:
        found = self._raw.get(key)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise NodeError(f"{self._what}: {key} should be a list of texts")
        return found


def _start_nothing(guest: str) -> None:
    raise NodeError(f"{guest} is not started: nothing is, in this session")


class Server:
    """The answering end, for one session."""

    def __init__(
        self, places: Places, brief: Brief, side: LocalSide, start: Callable[[str], None] = _start_nothing
    ) -> None:
        self._places, self._brief = places, brief
        self._halves: dict[str, Half] = {}
        self._answers: dict[str, Callable[[_Args], object]] = {
            "domains": lambda _: side.domains(),
            "hypervisor": lambda _: side.hypervisor(),
            "seqno": lambda _: side.seqno(),
            "activate": lambda args: side.activate(args.text("volume")),
            "deactivate": lambda args: side.deactivate(args.text("volume")),
            "refresh": lambda args: side.refresh(args.text("volume")),
            "missing_files": lambda args: side.missing_files(args.texts("paths")),
            "has_bridge": lambda args: side.has_bridge(args.text("name")),
            "carried": lambda _: side.carried(),
            "ring": lambda _: side.ring(),
            "start": lambda args: start(self._locked(args.text("name"))),
            "clear_transit": lambda args: side.clear_transit(self._locked(args.text("name"))),
            "lock": self._lock,
            "unlock": self._unlock,
            "hold?": lambda args: args.text("name") in self._halves,
        }

    def answer(self, line: str) -> str:
        """One line for one line; an error is an answer too."""
        try:
            what, raw = wire.parse_request(line)
            if what not in self._answers:
                raise NodeError(f"{what[:80]!r} is not known here", hint="bring both nodes to the same version")
            return wire.ok(self._answers[what](_Args(what, raw)))
        except (XenpairError, OSError) as e:
            return wire.error(e)

    def release(self) -> None:
        """Let go of every lock."""
        while self._halves:
            self._halves.popitem()[1].release()

    def _lock(self, args: _Args) -> None:
        name = args.text("name")
        self._halves[name] = take(self._places, name, Owner(self._brief.peer, args.number("pid"), args.text("what")))

    def _unlock(self, args: _Args) -> None:
        half = self._halves.pop(args.text("name"), None)
        if half is not None:
            half.release()

    def _locked(self, guest: str) -> str:
        if f"guest/{guest}" not in self._halves:
            raise NodeError(f"the lock guest/{guest} is not held in this session")
        return guest


def serve(
    places: Places, brief: Brief, stdin: TextIO, stdout: TextIO, start: Callable[[str], None] = _start_nothing
) -> None:
    """Answer until the other end has nothing more to ask, or is gone; then every lock is free.

    start: starts a guest for the other end, which holds its lock.
    """
    if isinstance(stdin, io.TextIOWrapper):
        stdin.reconfigure(errors="replace")
    server = Server(places, brief, LocalSide(brief, places), start)
    try:
        while line := stdin.readline(wire.LINE_LIMIT):
            stdout.write(server.answer(line))
            stdout.flush()
    except BrokenPipeError:
        # Nobody is there to hear it.
        pass
    finally:
        server.release()
