"""What the web page shows, and what a program may read at /state: everything at one moment. No ticket, no secret."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from images.serving.board import Board, Place
from images.serving.record import Record


@dataclass(frozen=True)
class NodeView:
    """One node. Times are seconds since 1970, and 0 for never."""

    cluster: str
    node: str
    stage: str
    failed: bool
    step: str
    state: str
    text: str
    percent: float | None
    log: tuple[str, ...]
    seen: str
    """What the machine said of itself."""
    heard: float
    given: float
    settled: bool
    """Whether it is installed or has its secrets, so that only the administrator can let it be installed again."""


@dataclass(frozen=True)
class StrangerView:
    """A machine that no config names."""

    seen: str
    macs: tuple[str, ...]
    text: str
    heard: float


@dataclass(frozen=True)
class Snapshot:
    """All of it."""

    now: float
    closes_in: float
    """Seconds until the window closes; 0 once it has."""
    nodes: tuple[NodeView, ...]
    strangers: tuple[StrangerView, ...]
    lines: tuple[tuple[float, str], ...]
    """What happened: time and text, the last one last."""

    @classmethod
    def of(cls, board: Board) -> Snapshot:
        """The board as it is now."""
        return cls(
            now=board.clock(),
            closes_in=board.window.left,
            nodes=tuple(_node(place, board.record(place)) for place in board.places()),
            strangers=tuple(_stranger(record) for record in reversed(board.strangers)),
            lines=tuple(board.lines),
        )

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))


def _node(place: Place, record: Record) -> NodeView:
    return NodeView(
        cluster=place.offer.name,
        node=place.node.name,
        stage=record.stage,
        failed=record.failed,
        step=record.step,
        state=record.state,
        text=record.text,
        percent=record.percent,
        log=record.log,
        seen=str(record.machine) if record.machine else "",
        heard=record.heard,
        given=record.given,
        settled=record.is_settled,
    )


def _stranger(record: Record) -> StrangerView:
    macs = tuple(sorted(set(record.machine.nics.values()))) if record.machine else ()
    return StrangerView(str(record.machine), macs, record.text, record.heard)
