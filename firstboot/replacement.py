"""Replacing a dead peer: the survivor makes room for a new machine, and goes on serving meanwhile.

The survivor forgets the old machine's facts and keys, and takes part in a join again, as at first boot. The new node
states fresh metadata there, so it gets a full resync; nothing on the survivor is stopped.
"""

from __future__ import annotations

import logging
from pathlib import Path

from config.door import run, write_file
from config.loader import load
from firstboot import observe
from firstboot.errors import ReplacementError
from firstboot.fencing import hears_peer
from firstboot.node import this_node
from firstboot.places import Places
from firstboot.plan.replacement import objection

log = logging.getLogger("xenpair")

UNIT = "xenpair-firstboot.service"


def replace_peer(places: Places, name: str, config: Path | None) -> None:
    """Await a new machine in the peer's place. config: the cluster's new cluster.yaml; None where it stays as it is.

    Raises ReplacementError where this node cannot carry the pair alone, or the config changes more than the peer's
    hardware; ConfigError for a config that is none. Interrupted anywhere, it may be typed again.
    """
    node = this_node(places)
    if name != node.peer.name:
        raise ReplacementError(f"the peer of {node.me.name} is {node.peer.name}, not {name!r}")
    state = observe.drbd()
    if hears_peer(state):
        raise ReplacementError(
            f"{name} is not gone: DRBD hears it ({state.connection}, {state.peer_disk})",
            hint=f"shut {name} down first; a node that only needs another disk below DRBD is replaced like a dead one",
        )
    if state.role != "Primary" or state.disk != "UpToDate" or state.suspended:
        frozen = ", and its I/O is frozen" if state.suspended else ""
        raise ReplacementError(
            f"{node.me.name} does not carry the pair's storage now: it is {state.role}, {state.disk}{frozen}",
            hint="`xenpair status` says what it waits for",
        )
    text = _checked(config, node.places.config, name) if config else None
    log.warning("replace: %s makes room for a new %s", node.me.name, name)
    write_file(places.awaited, name + "\n")
    places.join.unlink(missing_ok=True)
    if text is not None:
        write_file(places.config, text, mode=places.config.stat().st_mode & 0o777)
    places.formed.unlink(missing_ok=True)
    run(["systemctl", "restart", "--no-block", UNIT])


def _checked(config: Path, installed: Path, peer: str) -> bytes:
    reason = objection(load(installed).cluster, load(config).cluster, peer)
    if reason is not None:
        raise ReplacementError(
            f"{config}: {reason}", hint="change the rest on a healthy pair, not while a node is missing"
        )
    return config.read_bytes()
