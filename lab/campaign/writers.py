"""Writers on the nodes, and what the host knows of them: which writes were acknowledged, and when none were."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from config.door import run
from config.errors import CommandError
from lab.campaign import node_writer
from lab.errors import LabError
from lab.pair import Lab

PROGRAM = Path(node_writer.__file__)
STOP_LIMIT = 60.0
"""Seconds for a writer to see that it is to stop."""


@dataclass(frozen=True)
class Ack:
    """A sector that the storage has acknowledged; at: seconds on its node's clock, which stands while the node does."""

    number: int
    at: float


def longest_pause(acks: list[Ack]) -> float:
    """Seconds between two acknowledged writes that followed each other, at most. 0 for less than two."""
    return max((after.at - before.at for before, after in pairwise(acks)), default=0.0)


@dataclass
class Writer:
    """A sequence writer on one node, on a logical volume of its own."""

    lab: Lab
    node: str
    device: str
    tag: str
    acks: list[Ack] = field(default_factory=list)
    error: str = ""
    _process: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, at the first sector."""
        argv = self.lab.ssh_argv(self.node, f"python3 - write {self.device} {self.tag}")
        with PROGRAM.open() as program:
            self._process = subprocess.Popen(
                argv, stdin=program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both are pipes")
        for line in process.stdout:
            # The last line of a node that lost its power may be cut off: then nobody was told of that write.
            number, _, at = line.rstrip("\n").partition(" ")
            if line.endswith("\n"):
                self.acks.append(Ack(int(number), float(at)))
        self.error = process.stderr.read()

    @property
    def acknowledged(self) -> int:
        """How many sectors, from the first on, the storage has acknowledged."""
        return len(self.acks)

    def failure(self) -> str:
        """What the storage answered to a write that it refused; nothing where it refused none."""
        lines = [line for line in self.error.splitlines() if line.startswith("OSError")]
        return lines[-1] if lines else ""

    def end(self) -> None:
        """Leave what still runs to its node, and take no more notice of it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._process.wait()
        if self._reader is not None:
            self._reader.join()

    def stop(self) -> None:
        """Let it finish its present write. Raises LabError where it does not."""
        try:
            self.lab.ssh(self.node, f"touch {node_writer.STOP}")
            if self._process is not None:
                self._process.wait(STOP_LIMIT)
        except (CommandError, subprocess.TimeoutExpired) as e:
            raise LabError(f"the writer on {self.node} does not end: {e}") from e
        finally:
            self.end()

    def intact_on(self, node: str) -> int:
        """How many of the acknowledged sectors that node reads as they were written, up to the first that is not.

        Raises CommandError.
        """
        command = f"python3 - check {self.device} {self.tag} {self.acknowledged}"
        return int(run(self.lab.ssh_argv(node, command), stdin=PROGRAM.read_text()).stdout)
