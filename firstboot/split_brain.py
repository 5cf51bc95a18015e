"""Split brain: what this side knows, what the peer says of its own over SSH, and whether the two have parted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from config.door import run, write_file
from config.errors import CommandError
from firstboot import below, observe, ssh
from firstboot.blocks import BLOCK, Blocks
from firstboot.brief import Brief
from firstboot.errors import NodeError, SplitBrainError
from firstboot.places import Places
from firstboot.plan.split_brain import Kinship, Side, kinship
from firstboot.probe.drbd import DrbdState, Generations
from firstboot.probe.lvm import Volume

MEET_AGAIN = 30.0
"""Seconds after which two sides meet once more that DRBD keeps apart, and whose data do not."""

ASK_LIMIT = 60.0
"""Seconds for the peer to tell what it knows."""

PARTED = ("StandAlone", "WFConnection")

Action = Literal["look", "part", "give-up", "go-on", "rejoin", "meet"]


# What this node knows.


def look(brief: Brief) -> Side:
    """This side. Raises SplitBrainError where DRBD does not have its disk, else ProbeError or CommandError."""
    state = observe.drbd()
    if state.disk in ("DUnknown", "Diskless", "Failed"):
        raise SplitBrainError(f"DRBD on {brief.node} has no disk: it is {state.connection}, {state.disk}")
    partition = below.backing_partition(brief.resource)
    end, marked, hot = below.unreplicated(partition)
    volumes = below.volume_map(partition, brief.volume_group)
    return Side(
        node=brief.node,
        connection=state.connection,
        role=state.role,
        disk=state.disk,
        generations=observe.generations(brief.resource),
        written=observe.drbd().out_of_sync * 1024 // BLOCK,
        marked=marked,
        hot=hot,
        end=end,
        data_start=Blocks.of_bytes(0, volumes.data_start).count,
        seqno=volumes.seqno,
        volumes=volumes.volumes,
    )


def as_json(side: Side) -> str:
    """A side as it goes over the wire."""
    return json.dumps(asdict(side))


def from_json(text: str) -> Side:
    """A side as as_json wrote it. Raises SplitBrainError."""

    def pairs(raw: list[list[int]]) -> tuple[tuple[int, int], ...]:
        return tuple((int(start), int(end)) for start, end in raw)

    try:
        raw: dict[str, Any] = json.loads(text)
        generations = raw["generations"]
        volumes = tuple(Volume(v["name"], v["uuid"], pairs(v["pieces"])) for v in raw["volumes"])
        plain = {
            key: raw[key] for key in ("node", "connection", "role", "disk", "written", "end", "data_start", "seqno")
        }
        return Side(
            **plain,
            generations=Generations(generations["current"], generations["bitmap"], tuple(generations["history"])),
            marked=Blocks(pairs(raw["marked"]["ranges"])),
            hot=Blocks(pairs(raw["hot"]["ranges"])),
            volumes=volumes,
        )
    except (ValueError, TypeError, KeyError) as e:
        raise SplitBrainError(f"the peer answered what is not understood: {e}: {text[:200]!r}") from e


def ask(brief: Brief, action: Action, *arguments: str, timeout: float = ASK_LIMIT) -> str:
    """Have the peer do an action on its side. Raises SplitBrainError with the peer's own words."""
    try:
        return run(ssh.to_peer(brief.peer, "split-brain", "--act", action, *arguments), timeout=timeout).stdout
    except CommandError as e:
        # What the peer logs comes before its error.
        words = e.stderr.strip().rpartition("xenpair: ")[2] or e.what
        raise SplitBrainError(f"{brief.peer}: {words}") from e


def both(brief: Brief) -> tuple[Side, Side]:
    """This side and the peer's."""
    return look(brief), from_json(ask(brief, "look"))


# What it is.


@dataclass(frozen=True)
class SplitBrainStatus:
    """state: none, detected, or unclear where DRBD refuses the peer and nothing tells why; reason says it to people.

    kin: whether, by their generations, one side would simply follow the other if they met.
    """

    state: Literal["none", "detected", "unclear"] = "none"
    reason: str = ""
    kin: bool = False


NONE = SplitBrainStatus()


def note(brief: Brief, places: Places) -> None:
    """DRBD has said that both sides went on alone: it is remembered for as long as this side's data is that data."""
    write_file(places.split_brain, json.dumps({"generations": _written_out(brief)}) + "\n")


def is_noticed(brief: Brief, places: Places) -> bool:
    """Whether that is so now."""
    try:
        return bool(json.loads(places.split_brain.read_text())["generations"] == _written_out(brief))
    except (FileNotFoundError, ValueError, TypeError, KeyError, CommandError):
        return False


def _written_out(brief: Brief) -> str:
    now = observe.generations(brief.resource)
    return f"{now.current:016X}:{now.bitmap:016X}"


def status(brief: Brief, places: Places, state: DrbdState) -> SplitBrainStatus:
    """Whether this pair has parted: by DRBD's own word, else by both sides' generations."""
    if state.connection not in PARTED:
        return NONE
    if is_noticed(brief, places):
        return detected(brief)
    if state.connection != "StandAlone":
        # The ordinary loss of a peer.
        return NONE
    try:
        # Of this side no more than that: what its disk holds of volumes may be half a write behind.
        mine, peer = observe.generations(brief.resource), from_json(ask(brief, "look")).generations
    except (NodeError, CommandError) as e:
        why = e.message.splitlines()[0]
        return SplitBrainStatus(
            "unclear", f"DRBD refuses {brief.peer} (`dmesg` says why), which cannot be asked: {why}"
        )
    relation = kinship(mine, peer)
    if relation in (Kinship.SPLIT, Kinship.AMBIGUOUS):
        return detected(brief)
    return SplitBrainStatus(
        "unclear",
        f"DRBD refuses {brief.peer} (`dmesg` says why); no split brain: {relation.value}",
        kin=relation is not Kinship.UNRELATED,
    )


def detected(brief: Brief) -> SplitBrainStatus:
    """The one sentence that every place says of it."""
    return SplitBrainStatus(
        "detected",
        f"split brain: {brief.node} and {brief.peer} have both gone on alone; nothing is discarded unless you say so: "
        f"`xenpair split-brain`",
    )


class Refusal:
    """Why DRBD refuses the peer: asked when it does, and every now and then, as the storage unit looks twice a second.

    now: seconds on a clock that nobody sets.
    """

    def __init__(self, brief: Brief, places: Places, now: Callable[[], float] = time.monotonic) -> None:
        self._brief = brief
        self._places = places
        self._now = now
        self._known = NONE
        self._asked = 0.0

    def reason(self, state: DrbdState) -> str:
        """For people; empty where DRBD does not refuse the peer."""
        if state.connection != "StandAlone":
            self._known = NONE
        elif self._known == NONE:
            self._known, self._asked = status(self._brief, self._places, state), self._now()
        return self._known.reason

    def has_passed(self) -> bool:
        """Whether to let the two meet once more: what DRBD refused for may be over, and it judges them anew.

        Such as a proof of the peer that was garbled on its way, or a secret that was another one. Both sides drop the
        connection for good then, whatever the reason.
        """
        if self._known.state != "unclear" or self._now() - self._asked < MEET_AGAIN:
            return False
        known, self._known = self._known, NONE
        return known.kin
