"""What a lab remembers between two commands: one JSON file in its directory."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from config.door import write_file
from config.model import Cluster
from lab.accelerator import Verdict
from lab.bmc_view import Mode
from lab.errors import LabError, NoLabError
from lab.media import Firmware, Via
from lab.process import Process
from lab.switch import Fault

STATE = "state.json"
LOCK = "lock"


class Bmcs(BaseModel):
    """The nodes' BMCs. lab.bmc_view reads this too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relay: Process | None = None
    sims: dict[str, Process] = {}
    """By node, its ipmi_sim."""
    ports: dict[str, int] = {}
    """By node, the UDP port of 127.0.0.1 at which its ipmi_sim listens."""
    modes: dict[str, Mode] = {}
    """By node, what is wrong with its BMC; nothing where it is not here."""


class Snapshot(BaseModel):
    """Where a snapshot's machines stood on their consoles, in bytes: since when they were booted, and the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boots: dict[str, int]
    consoles: dict[str, int]


class State(BaseModel):
    """The whole of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: Cluster
    """The config as it was when the lab was made."""
    firmware: Firmware
    seeded: bool
    """Whether the nodes get a seed medium."""
    via: Via | None = None
    """What their empty disks are installed from; None where they begin with the image."""
    origin: str = ""
    """Key of the build that is installed."""
    verdict: Verdict | None = None
    """The accelerator, once one was chosen."""
    switch: Process | None = None
    gateway: Process | None = None
    uplink: Process | None = None
    """What joins the install server to the guest segment."""
    server: Process | None = None
    """The install server."""
    installed: tuple[str, ...] = ()
    """The nodes whose installer was seen to be done, in a lab that is installed."""
    page: int | None = None
    """The port on 127.0.0.1 that leads to its web page."""
    nodes: dict[str, Process] = {}
    """The QEMU of each node that was started."""
    ports: dict[str, int] = {}
    """By node, the port on 127.0.0.1 that leads to its SSH."""
    boots: dict[str, int] = {}
    """By node, where in its console log the present power-on begins, in bytes."""
    faults: tuple[Fault, ...] = ()
    bmcs: Bmcs = Bmcs()
    snapshots: dict[str, Snapshot] = {}


def load(directory: Path) -> State:
    """Read a lab's state. Raises NoLabError where there is no lab, LabError where its state is unreadable."""
    file = directory / STATE
    try:
        return State.model_validate_json(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise NoLabError(f"there is no lab in {directory}", hint="`invoke lab.up` makes one") from None
    except (OSError, UnicodeDecodeError, ValidationError) as e:
        raise LabError(
            f"{file} cannot be read: {e}",
            hint=f"end the QEMU processes whose working directory is {directory}, then delete that directory",
        ) from e


def save(directory: Path, state: State) -> None:
    """Write the state, atomically."""
    write_file(directory / STATE, state.model_dump_json(indent=2) + "\n", mode=0o600)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other commands from changing the same lab meanwhile; waits for those that do."""
    try:
        file = (directory / LOCK).open("w")
    except FileNotFoundError:
        raise NoLabError(f"there is no lab in {directory}", hint="`invoke lab.up` makes one") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
