"""A user-space Ethernet switch whose cables can be taken out: `python -m lab.switch CABLE...`

Each cable joins one network card to one segment and is named SEGMENT-NODE. Its two ends are unix datagram sockets in
the working directory, one frame to a datagram: SEGMENT-NODE.switch is ours, SEGMENT-NODE.nic is QEMU's (-netdev dgram).
A card whose QEMU is not running, or runs again under a new socket, needs no care: what cannot be delivered is lost, as
on a wire.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import selectors
import socket
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Segment = Literal["cluster", "guest"]
Direction = Literal["both", "to-node", "from-node"]

CONTROL = "switch.control"
FRAME = 65536
"""Largest datagram read: more than any Ethernet frame."""
QUEUE = 1000
"""Frames that a cable holds for a card that is slow to read; Linux' default txqueuelen. The kernel itself holds only
net.unix.max_dgram_qlen (10)."""
BROADCAST = 0x01
"""Lowest bit of a MAC's first byte: group address, IEEE 802."""


class Fault(BaseModel):
    """What is wrong with a cable. Taken out is the same as losing everything in both directions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segment: Segment
    node: str
    direction: Direction = "both"
    loss: float = Field(default=1.0, ge=0, le=1)
    """Part of the frames that is lost."""

    @property
    def cut(self) -> bool:
        """Nothing passes either way: the cards at its end see no carrier."""
        return self.direction == "both" and self.loss == 1.0


class Faults(BaseModel):
    """All faults in force. Sent as one JSON line over the control socket, it replaces what was in force before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    faults: tuple[Fault, ...] = ()


class Reply(BaseModel):
    """The switch's answer to a control line."""

    error: str = ""
    delivered: int = 0
    """Frames handed to a card since the switch started."""
    lost: int = 0
    """Frames lost to faults since the switch started."""


@dataclass
class Fate:
    """Decides of one frame on one cable whether it passes."""

    faults: tuple[Fault, ...] = ()
    dice: random.Random = field(default_factory=random.Random)

    def passes(self, cable: Cable, direction: Direction) -> bool:
        """Whether a frame on that cable, going that way, arrives."""
        return not any(
            (fault.segment, fault.node) == (cable.segment, cable.node)
            and fault.direction in ("both", direction)
            and self.dice.random() < fault.loss
            for fault in self.faults
        )


@dataclass(frozen=True)
class Cable:
    """From a network card to its segment."""

    segment: Segment
    node: str

    @classmethod
    def parse(cls, name: str) -> Cable:
        """From SEGMENT-NODE. Raises ValueError."""
        segment, _, node = name.partition("-")
        if segment not in ("cluster", "guest") or not node:
            raise ValueError(f"{name!r} is not SEGMENT-NODE with a segment of cluster or guest")
        return cls("cluster" if segment == "cluster" else "guest", node)

    def __str__(self) -> str:
        return f"{self.segment}-{self.node}"

    @property
    def switch_end(self) -> str:
        """File name of the socket that the switch reads."""
        return f"{self}.switch"

    @property
    def nic_end(self) -> str:
        """File name of the socket that QEMU reads."""
        return f"{self}.nic"


class Forwarding:
    """Which cables a frame goes out on: a learning bridge per segment."""

    def __init__(self, cables: Iterable[Cable]) -> None:
        self.cables = tuple(cables)
        self._learned: dict[tuple[Segment, bytes], Cable] = {}

    def outputs(self, frame: bytes, source: Cable) -> list[Cable]:
        """The cables for a frame that came in on source, which is learned from it. Runts go nowhere."""
        if len(frame) < 14:
            return []
        destination, sender = frame[:6], frame[6:12]
        self._learned[source.segment, sender] = source
        if not destination[0] & BROADCAST and (known := self._learned.get((source.segment, destination))):
            return [known] if known != source else []
        return [cable for cable in self.cables if cable.segment == source.segment and cable != source]


class Port:
    """The switch's end of a cable: a socket to read, another to write, and what waits to be written."""

    def __init__(self, cable: Cable, directory: Path) -> None:
        self.cable = cable
        self._nic = directory / cable.nic_end
        path = directory / cable.switch_end
        path.unlink(missing_ok=True)
        self.reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.reader.setblocking(False)
        self.reader.bind(str(path))
        # Connected, since only then does the kernel say when the card's queue has room again. A socket of its own,
        # since a connected reader would refuse frames from a QEMU that was started again.
        self.writer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.writer.setblocking(False)
        self.waiting: deque[bytes] = deque()

    def send(self, frame: bytes) -> None:
        """Hand a frame to the card, or queue it; a full queue drops it, as a switch does."""
        if self.waiting:
            if len(self.waiting) < QUEUE:
                self.waiting.append(frame)
        elif not self._write(frame):
            self.waiting.append(frame)

    def flush(self) -> None:
        """Hand over what waits, as far as the card takes it."""
        while self.waiting and self._write(self.waiting[0]):
            self.waiting.popleft()

    def _write(self, frame: bytes) -> bool:
        """False when the card has no room now; a frame to a card that is not there counts as sent."""
        try:
            self.writer.send(frame)
        except BlockingIOError:
            return False
        except OSError:
            # Not connected yet, or connected to a QEMU that is gone.
            with contextlib.suppress(OSError):
                self.writer.connect(str(self._nic))
                self.writer.send(frame)
        return True


class Switch:
    """Ports, forwarding and fate, and the loop that moves frames."""

    def __init__(self, cables: Iterable[Cable], directory: Path, fate: Fate | None = None) -> None:
        self.fate = fate or Fate()
        self.ports = {cable: Port(cable, directory) for cable in cables}
        self.forwarding = Forwarding(self.ports)
        self.delivered = self.lost = 0
        self._selector = selectors.DefaultSelector()
        for port in self.ports.values():
            self._selector.register(port.reader, selectors.EVENT_READ, port)
        (directory / CONTROL).unlink(missing_ok=True)
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(str(directory / CONTROL))
        self._control.listen()
        self._selector.register(self._control, selectors.EVENT_READ)

    def forward(self, frame: bytes, source: Cable) -> None:
        """One frame that a card sent."""
        if not self.fate.passes(source, "from-node"):
            self.lost += 1
            return
        for cable in self.forwarding.outputs(frame, source):
            if not self.fate.passes(cable, "to-node"):
                self.lost += 1
                continue
            self.delivered += 1
            port = self.ports[cable]
            port.send(frame)
            if port.waiting and port.writer not in self._selector.get_map():
                self._selector.register(port.writer, selectors.EVENT_WRITE, port)

    def control(self, line: bytes) -> Reply:
        """Obey one control line; an empty one only asks."""
        if line.strip():
            try:
                self.fate.faults = Faults.model_validate_json(line).faults
            except ValidationError as e:
                return Reply(error=str(e))
        return Reply(delivered=self.delivered, lost=self.lost)

    def step(self, timeout: float | None = None) -> None:
        """Wait at most timeout seconds for something to do, and do it."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._control:
                self._answer()
                continue
            port: Port = key.data
            if key.fileobj is port.writer:
                port.flush()
                if not port.waiting:
                    self._selector.unregister(port.writer)
                continue
            # A burst is taken whole but not endlessly, so that no cable starves the others.
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    self.forward(port.reader.recv(FRAME), port.cable)

    def _answer(self) -> None:
        connection, _ = self._control.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            with connection.makefile("rb") as lines:
                connection.sendall(self.control(lines.readline()).model_dump_json().encode() + b"\n")


def main(argv: list[str]) -> int:
    """Run until killed. Sockets are made in the working directory."""
    parser = argparse.ArgumentParser(prog="lab.switch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cables", nargs="+", type=Cable.parse, metavar="SEGMENT-NODE")
    switch = Switch(parser.parse_args(argv).cables, Path())
    while True:
        switch.step()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
