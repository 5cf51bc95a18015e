"""Two nodes of a pair on one machine: a directory each, and a real server at the end of a real pipe in place of SSH."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from firstboot.brief import Brief
from firstboot.guests import wire
from firstboot.guests.peer import PeerSession, Server
from firstboot.places import Places
from firstboot.probe.drbd import DrbdState

REPOSITORY = Path(__file__).parents[2]
XEN1 = Brief(node="xen1", peer="xen2", first=True, resource="r0", volume_group="data")
XEN2 = Brief(node="xen2", peer="xen1", first=False, resource="r0", volume_group="data")
WHOLE = DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")
SURVIVOR = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated")
RESYNC = DrbdState("SyncSource", "Primary", "Secondary", "UpToDate", "Inconsistent")
BOTH_SYNC = DrbdState("SyncSource", "Primary", "Primary", "UpToDate", "Inconsistent")
VERIFY = DrbdState("VerifyS", "Primary", "Primary", "UpToDate", "UpToDate")
FROZEN = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "DUnknown", suspended=True)

PRELUDE = f"""
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from firstboot.brief import Brief
from firstboot.places import Places
"""


class InProcess:
    """A session without a process: each line goes through the server as it is. around: entered for each question."""

    def __init__(self, server: Server, peer: str = "xen2", around: Callable[[], Any] = nullcontext) -> None:
        self.server, self.peer, self._around = server, peer, around
        self.alive = True

    def ask(self, what: str, _timeout: float = 60, /, **args: object) -> Any:
        """As PeerSession.ask()."""
        with self._around():
            line = self.server.answer(wire.request(what, args))
        assert line.endswith("\n")
        assert line.count("\n") == 1
        return wire.value(wire.parse_answer(line, self.peer), self.peer)

    def close(self) -> None:
        """As PeerSession.close()."""
        self.alive = False
        self.server.release()


def root(directory: Path, brief: Brief) -> Path:
    """Where that node's files lie."""
    return directory / brief.node


def other(brief: Brief) -> Brief:
    """The peer's."""
    return XEN2 if brief is XEN1 or brief == XEN1 else XEN1


def server_argv(directory: Path, brief: Brief) -> list[str]:
    """What `ssh PEER xenpair peer` is for the node of that brief."""
    there = other(brief)
    code = f"""{PRELUDE}
from firstboot.guests.peer import serve
serve(Places(Path({str(root(directory, there))!r})), Brief(**{asdict(there)!r}), sys.stdin, sys.stdout)
"""
    return [sys.executable, "-c", code]


def connect(directory: Path) -> Callable[[Brief], PeerSession]:
    """For Pair(connect=...)."""
    return lambda brief: PeerSession(brief.peer, server_argv(directory, brief))


def places(directory: Path, brief: Brief) -> Places:
    """Of that node."""
    return Places(root(directory, brief))


def caller(directory: Path, brief: Brief, body: str) -> subprocess.Popen[str]:
    """Another process on that node, with a `pair`; its lines come out of stdout."""
    code = f"""{PRELUDE}
from firstboot import observe
from firstboot.guests.locks import Owner, take
from firstboot.guests.pair import Pair
from firstboot.guests import wire
from firstboot.guests.peer import PeerSession, Server
from firstboot.probe.drbd import DrbdState
observe.drbd = lambda: DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")
places = Places(Path({str(root(directory, brief))!r}))
argv = {server_argv(directory, brief)!r}
with Pair(Brief(**{asdict(brief)!r}), places, connect=lambda brief: PeerSession(brief.peer, argv)) as pair:
{"".join(f"    {line}" + chr(10) for line in body.strip().splitlines())}
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def says(process: subprocess.Popen[str], line: str) -> None:
    """Wait for the line."""
    assert process.stdout is not None
    assert process.stdout.readline() == line + "\n"


def until(happened: Callable[[], bool], limit: float = 30.0) -> None:
    """The tests' one deadline; all that it waits for takes milliseconds on a machine that is not busy."""
    deadline = time.monotonic() + limit
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def drbd_is(monkeypatch: pytest.MonkeyPatch, state: DrbdState) -> None:
    """What /proc/drbd says from now on."""
    monkeypatch.setattr("firstboot.observe.drbd", lambda: state)
