"""What a fault may do to the pair, and what it may wait for. Its dice decide all that is left to chance."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from config.errors import XenpairError
from firstboot.probe.drbd import UNCONFIGURED, DrbdState, parse_proc_drbd
from lab import machine, monitor
from lab.console import Follower, Progress, Stage
from lab.pair import Lab

SCRATCH = "campaign"
"""The logical volume that a fault may fill."""
POLL = 0.5
"""Seconds between two looks."""
LOSS_LIMIT = 240.0
"""Seconds for a node to be fenced: 10 until DRBD notices, 3 of grace, 20 of delay, the BMC; the rest is emulation."""
BOOT_LIMIT = 900.0
"""Seconds for a node to boot and resync under emulation."""


class StuckError(XenpairError):
    """The pair did not come to where it had to come by itself."""


@dataclass
class Scene:
    """One round: a formed pair with its writers running, and what is done to it."""

    lab: Lab
    dice: Random
    say: Callable[[str], None]
    struck_at: float | None = None
    """time.monotonic() of the fault proper, once it has struck."""
    failing_disk: str = ""
    """The node whose backing disk fails in this round."""

    @property
    def nodes(self) -> tuple[str, str]:
        """Both names, in the config's order."""
        first, second = self.lab.state().cluster.nodes
        return first.name, second.name

    @property
    def scratch(self) -> str:
        """A volume that no writer writes to."""
        return f"/dev/{self.lab.state().cluster.storage.volume_group}/{SCRATCH}"

    def pick(self) -> tuple[str, str]:
        """One of the two, by the dice, and the other one."""
        first, second = self.nodes
        return (first, second) if self.dice.random() < 0.5 else (second, first)

    def strike(self, what: str) -> None:
        """Say what happens now; the pair's time to recover counts from here."""
        self.say(what)
        self.struck_at = time.monotonic()

    def sleep(self, low: float, high: float) -> None:
        """For a time that the dice decide, in seconds."""
        time.sleep(self.dice.uniform(low, high))

    def shell(self, node: str, command: str, *, check: bool = True, timeout: float = 120) -> str:
        """Standard output of a shell command on a node. Raises CommandError."""
        return self.lab.ssh(node, command, check=check, timeout=timeout).stdout

    def drbd(self, node: str) -> DrbdState:
        """What DRBD says there; unconfigured where nobody answers."""
        try:
            return parse_proc_drbd(self.lab.ssh(node, "cat /proc/drbd", check=False, timeout=30).stdout)
        except XenpairError:
            return UNCONFIGURED

    def wait(self, what: str, limit: float, happened: Callable[[], bool], *, poll: float = POLL) -> None:
        """Until it has happened. Raises StuckError after limit seconds."""
        deadline = time.monotonic() + limit
        while not happened():
            if time.monotonic() > deadline:
                raise StuckError(f"{what}: not within {limit:.0f} s")
            time.sleep(poll)

    def running(self, node: str) -> bool:
        """Whether the machine has power."""
        process = self.lab.state().nodes.get(node)
        return process is not None and process.alive()

    def power_ons(self) -> dict[str, int]:
        """By node, something that changes whenever its machine gets its power anew."""
        return {name: process.pid for name, process in self.lab.state().nodes.items()}

    def lost(self, before: dict[str, int]) -> list[str]:
        """The nodes that somebody has switched off, or off and on, since power_ons() said that."""
        now = self.power_ons()
        return [node for node in self.nodes if not self.running(node) or now[node] != before[node]]

    def wait_lost(self, node: str, before: dict[str, int]) -> None:
        """Until somebody has switched that node off, or off and on, since power_ons() said so."""
        self.wait(f"{node} is fenced", LOSS_LIMIT, lambda: node in self.lost(before))

    def wait_one_lost(self, before: dict[str, int]) -> str:
        """Until one of the two has been switched off; which one."""
        self.wait("one of the two is fenced", LOSS_LIMIT, lambda: bool(self.lost(before)))
        return self.lost(before)[0]

    def wait_alone(self, node: str) -> None:
        """Until that node's storage goes on without the peer: its loss was noticed, and its fencing proven."""

        def alone() -> bool:
            state = self.drbd(node)
            return state.connection == "WFConnection" and not state.suspended and state.role == "Primary"

        self.wait(f"{node} goes on alone", LOSS_LIMIT, alone, poll=1)

    def plug_in(self, *names: str) -> None:
        """Give machines power that have none."""
        self.lab.start(*names)

    def boot(self, node: str) -> Progress:
        """Where the node's boot stands, as its console tells."""
        return Follower(self.lab.directory / f"{node}.log", self.lab.state().boots[node]).poll()

    def progress(self, node: str) -> str:
        """The same in words."""
        return self.boot(node).text

    def wait_reachable(self, node: str) -> None:
        """Until the node can be logged in to."""

        def reachable() -> bool:
            return self.lab.ssh(node, "true", check=False, timeout=30).returncode == 0

        self.wait(f"{node} lets us in", BOOT_LIMIT, reachable, poll=2)

    def wait_booted(self, node: str) -> None:
        """Until the node is as far as a login, or farther."""
        self.wait(f"{node} boots", BOOT_LIMIT, lambda: self.boot(node).stage >= Stage.LOGIN, poll=1)

    def freeze(self, node: str) -> None:
        """The whole machine hangs: no instruction is executed any more."""
        monitor.execute(self.lab.directory, machine.qmp(node), "stop")

    def thaw(self, node: str) -> None:
        """It goes on, as if nothing had been; unless it was switched off meanwhile."""
        if self.running(node):
            monitor.execute(self.lab.directory, machine.qmp(node), "cont")
