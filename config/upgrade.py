"""What the build host and a node tell each other about an upgrade. The node decides; the host shows it and asks."""

from __future__ import annotations

from collections.abc import Iterator

from config.changes import Change
from config.values import Model

PACKAGE = "xenpair-firstboot"
OFFERED = "/var/lib/xenpair/upgrade/offered"
"""Directory on a node, 0700, for the package and the config that it is to have, under these names."""
OFFERED_PACKAGE, OFFERED_CONFIG = "package.deb", "cluster.yaml"


class NodePlan(Model):
    """What an upgrade would change on one node.

    installed and offered: versions of the package; files: rendered ones that get another content; restart and reboot:
    why one is needed, or empty; refused: why nothing is done at all; unfinished: an earlier upgrade stopped half-way.
    """

    node: str
    installed: str
    offered: str
    changes: tuple[Change, ...] = ()
    files: tuple[str, ...] = ()
    restart: str = ""
    reboot: str = ""
    refused: tuple[str, ...] = ()
    unfinished: bool = False

    @property
    def moves_guests(self) -> bool:
        """Whether the node's guests spend a part of it on the peer."""
        return bool(self.restart or self.reboot)

    @property
    def nothing_to_do(self) -> bool:
        """Whether the node is already as it is to be."""
        differs = self.installed != self.offered or self.changes or self.files or self.moves_guests
        return not (differs or self.unfinished)

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.nothing_to_do:
            yield f"{self.node}: nothing to do"
            return
        yield f"{self.node}:" + (" (goes on where an earlier upgrade stopped)" if self.unfinished else "")
        same = self.installed == self.offered
        yield f"  package   {self.installed}" + (" (stays)" if same else f" -> {self.offered}")
        yield from (f"  config    {change}" for change in self.changes)
        yield from (f"  file      /{file}" for file in self.files)
        if self.reboot:
            yield f"  reboot    {self.reboot}; its guests are on the peer meanwhile"
        elif self.restart:
            yield f"  restart   {self.restart}; its guests are on the peer meanwhile"
        else:
            yield "  guests    stay where they are"
        yield from (f"  REFUSED   {reason}" for reason in self.refused)


class Outcome(Model):
    """How far a node has come. reboot: why it has to be rebooted now, and asked once more after that; else empty."""

    node: str
    reboot: str = ""
