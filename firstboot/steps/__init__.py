"""One module a step: check, apply, check again. The only code that changes the node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    # The installer takes one of the steps, and would load all that a node's files are rendered with.
    from firstboot.journal import Journal
    from firstboot.node import ThisNode


@dataclass(frozen=True)
class Work:
    """What a step is handed: the node, the journal to write intents to, and where to say what it waits for."""

    node: ThisNode
    journal: Journal
    waiting: Callable[[str], None]


class Step(Protocol):
    """check() looks and changes nothing; apply() makes the effect, and may be interrupted and repeated anywhere."""

    name: ClassVar[str]
    text: ClassVar[str]

    def check(self, work: Work) -> bool:
        """Whether the effect is there."""
        ...

    def apply(self, work: Work) -> None:
        """Bring the effect about. Raises XenpairError where that cannot be done safely."""
        ...
