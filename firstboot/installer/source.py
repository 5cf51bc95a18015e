"""Where an installation comes from: one seam for the medium and for the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from config.machine import Machine
from config.model import Cluster, Node
from firstboot.places import Places


@dataclass(frozen=True)
class Assignment:
    """Which node of which cluster this machine is."""

    cluster: Cluster
    node: Node


class Stream(Protocol):
    """Bytes from the first to the last."""

    def readinto(self, buffer: memoryview, /) -> int:
        """As many bytes as there are at once; 0 at the end."""
        ...

    def close(self) -> None:
        """No more of it is wanted."""
        ...


class Source(Protocol):
    """What is read only when it is needed. Each call raises XenpairError where it cannot be had."""

    def identify(self, machine: Machine) -> Assignment:
        """Find out which node the machine is to be."""
        ...

    def index(self) -> bytes:
        """index.json."""
        ...

    def signature(self) -> bytes:
        """index.json.sig."""
        ...

    def image(self, size: int) -> Stream:
        """image.zst, of that many bytes."""
        ...

    def hand_over(self, places: Places, waiting: Callable[[str], None]) -> None:
        """Put the cluster's config, its secrets and its files onto the root file system of the new node."""
        ...
