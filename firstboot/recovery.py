"""The journal as first boot starts with it: read, or rebuilt from what the node shows where it is damaged or gone."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from firstboot import observe
from firstboot.errors import JournalError, ProbeError
from firstboot.journal import REBUILT, Entry, Journal, read_journal, set_aside
from firstboot.node import ThisNode
from firstboot.plan.recovery import DISKS, Past, Rebuild, judge
from firstboot.probe.records import device_in_join, device_in_resource

log = logging.getLogger("xenpair")

RESOURCE = "etc/drbd.d/xenpair.res"


def open_journal(node: ThisNode) -> Journal:
    """This node's journal. A damaged file is kept aside. Raises JournalError where what is certain does not suffice."""
    path = node.places.journal
    reading = read_journal(path)
    past = _past(node)
    devices = observe.block_devices() if past.named else ()
    rebuild = judge(str(path), reading, past, devices)
    if rebuild is None:
        return Journal(path)
    kept = str(set_aside(path)) if path.exists() else ""
    aside = f"; the file is kept as {kept}" if kept else ""
    log.warning("the journal of first boot is rebuilt: %s%s", rebuild.why, aside)
    return Journal.rebuild(path, (*reading.entries, *_entries(rebuild, kept)))


def _entries(rebuild: Rebuild, kept: str) -> tuple[Entry, ...]:
    now = time.time()
    mark = Entry(REBUILT, "begun", now, {"why": rebuild.why, "kept": kept})
    return (mark, Entry(DISKS, "begun", now, dict(rebuild.disks))) if rebuild.disks else (mark,)


def _past(node: ThisNode) -> Past:
    places = node.places
    files = (places.brief, places.join, places.at(RESOURCE))
    named = {}
    if (text := _read(places.join)) is not None:
        try:
            named[str(places.join)] = device_in_join(text, node.me.name, node.cluster.cluster.name)
        except ProbeError as e:
            raise JournalError(
                f"{places.join}: {e.message}",
                hint="move it away, then `xenpair resume`: both nodes state their facts again",
            ) from e
    if (text := _read(places.at(RESOURCE))) is not None:
        device = device_in_resource(text.decode(errors="replace"), node.me.name)
        if device is not None:
            named[str(places.at(RESOURCE))] = device
    return Past(tuple(str(file) for file in files if file.exists()), named)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
