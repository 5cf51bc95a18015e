"""The status of a lab: what the host sees of each node, and what each node says of itself."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.table import Table


class Part(BaseModel):
    """A part of a node's answer. A node may know more than this lab asks for."""

    model_config = ConfigDict(frozen=True)


class Firstboot(Part):
    """Where first boot stands."""

    state: str
    step: str | None = None
    error: str | None = None


class Drbd(Part):
    """The replicated device."""

    connection: str | None = None
    role: str | None = None
    peer_role: str | None = None
    disk: str | None = None
    peer_disk: str | None = None


class Lvm(Part):
    """The volume group on it."""

    volume_group: str | None = None


class Heartbeat(Part):
    """The cluster manager."""

    state: str | None = None


class Fencing(Part):
    """Whether a lost peer could be switched off, or how far that is."""

    state: str | None = None
    reason: str | None = None


class Guest(Part):
    """A guest and where it is."""

    name: str
    home: str
    running_on: str | None = None


class Pair(Part):
    """`xenpair status --json` of one node."""

    node: str
    firstboot: Firstboot
    drbd: Drbd = Drbd()
    lvm: Lvm = Lvm()
    heartbeat: Heartbeat = Heartbeat()
    fencing: Fencing = Fencing()
    guests: tuple[Guest, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Pair | str:
        """From the node's output; a text that says what is wrong with it where it is not that."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as e:
            return f"unreadable answer: {e.errors()[0]['msg']}"


class NodeStatus(Part):
    """One node."""

    name: str
    running: bool
    console: str
    """Last stage or step on its console since power-on."""
    ssh_port: int | None
    exit_code: int | None = None
    """Of `xenpair status` there: 0 healthy, 2 degraded, 1 failed; None where it could not be asked."""
    pair: Pair | None = None
    problem: str = ""
    """Why there is no answer."""


class LabStatus(Part):
    """The lab."""

    accelerator: Literal["kvm", "tcg"] | None
    accelerator_reason: str
    cut: tuple[str, ...]
    """Cables with a fault, as SEGMENT-NODE."""
    bmcs: tuple[str, ...] = ()
    """BMCs that are not as they should be, as NODE: WHAT."""
    nodes: tuple[NodeStatus, ...]

    @property
    def exit_code(self) -> int:
        """0: both nodes say healthy. 1: none of them could say more than failed. 2: anything between."""
        codes = [node.exit_code for node in self.nodes]
        if all(code == 0 for code in codes):
            return 0
        return 2 if any(code in (0, 2) for code in codes) else 1

    def table(self) -> Table:
        """For a person."""
        columns = ("node", "power", "console", "ssh", "drbd", "roles", "disks", "vg", "heartbeat", "fencing", "guests")
        table = Table(*columns, caption=f"{self.accelerator or 'no accelerator yet'}: {self.accelerator_reason}")
        for node in self.nodes:
            table.add_row(
                node.name, "on" if node.running else "off", node.console, str(node.ssh_port or ""), *_pair(node)
            )
        for node in self.nodes:
            if node.pair and node.pair.fencing.reason:
                table.caption = f"{table.caption}\n{node.name}: {node.pair.fencing.reason}"
        if self.cut:
            table.caption = f"{table.caption}\nfaults on: {', '.join(self.cut)}"
        if self.bmcs:
            table.caption = f"{table.caption}\nBMCs: {', '.join(self.bmcs)}"
        return table


def _pair(node: NodeStatus) -> list[str]:
    if (pair := node.pair) is None:
        return [node.problem or "?", *[""] * 6]
    drbd = pair.drbd
    return [
        drbd.connection or "-",
        f"{drbd.role or '-'}/{drbd.peer_role or '-'}",
        f"{drbd.disk or '-'}/{drbd.peer_disk or '-'}",
        pair.lvm.volume_group or "-",
        pair.heartbeat.state or "-",
        pair.fencing.state or "-",
        ", ".join(f"{guest.name} on {guest.running_on or 'none'}" for guest in pair.guests) or "-",
    ]
