"""What a changed config means for a running pair: each value that differs, and what it takes until it is in force.

Most of a config is read once, by first boot, and what it made of it cannot be changed under running guests. Every key
of the model stands in EFFECTS; a test sees to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from config.model import Cluster
from config.sizes import parse_size
from config.values import Model

Effect = Literal["recorded", "live", "guests", "restart", "reboot", "refused"]
"""recorded: nothing on the node reads it; live: in force at once; guests: by `xenpair guest`; restart: of the cluster
stack, with the guests on the peer meanwhile; reboot: of the node, likewise; refused: not on a running pair."""

IMAGE_ONLY = "only for images built from now on; apt brings it to a running node"
MACHINE = "`xenpair replace` puts another machine in a node's place"
DISK = "`xenpair replace` or `xenpair replace-disk` brings another disk in"
FIXED = "fixed when the pair was formed: back up the guests, and form a new pair"

EFFECTS: Mapping[str, tuple[Effect, str]] = {
    "cluster.name": ("refused", FIXED),
    "cluster.domain": ("live", ""),
    "debian": ("recorded", IMAGE_ONLY),
    "admin.ssh_keys": ("live", ""),
    "dom0.memory": ("reboot", "Xen gives dom0 its memory at boot"),
    "network.bridge": ("refused", "guests are plugged into it"),
    "network.gateway": ("live", ""),
    "network.dns": ("live", ""),
    "network.join_port": ("live", ""),
    "nodes.name": ("refused", FIXED),
    "nodes.match": ("refused", MACHINE),
    "nodes.nics": ("refused", MACHINE),
    "nodes.addresses": ("refused", FIXED),
    "nodes.memory": ("recorded", "for checks and plans"),
    "nodes.disks": ("refused", DISK),
    "nodes.bmc": ("live", ""),
    "storage.system": ("refused", DISK),
    "storage.backing": ("refused", DISK),
    "storage.drbd.resource": ("refused", FIXED),
    "storage.drbd.port": ("refused", "both nodes would have to change it at the same instant"),
    "storage.drbd.max_rate": ("live", ""),
    "storage.volume_group": ("refused", FIXED),
    "heartbeat.keepalive": ("restart", "heartbeat reads its timing when it starts"),
    "heartbeat.warntime": ("restart", "heartbeat reads its timing when it starts"),
    "heartbeat.deadtime": ("restart", "heartbeat reads its timing when it starts"),
    "heartbeat.initdead": ("restart", "heartbeat reads its timing when it starts"),
    "heartbeat.port": ("refused", "until both have it, each node would take the other one for dead"),
    "fencing": ("live", ""),
    "guests": ("refused", "only memory, vcpus and a larger disk change of a guest that is there: make a new one"),
    "guests.memory": ("guests", "in force from the guest's next start on"),
    "guests.vcpus": ("guests", "in force from the guest's next start on"),
    "guests.disk": ("guests", "the guest's file system is its own to grow"),
    "guests.install": ("recorded", "used when a guest is made, and never again"),
}
"""By key, without the names in brackets; what is below a key has its effect, unless it has one of its own."""


class Change(Model):
    """A value that differs. path: like nodes[xen1].bmc.address; old, new: for people; text: why, and what to do."""

    path: str
    old: str
    new: str
    effect: Effect
    text: str = ""

    def __str__(self) -> str:
        how = {"live": "at once", "restart": "restart", "reboot": "reboot", "refused": "cannot change"}.get(self.effect)
        remark = ": ".join(part for part in (how, self.text) if part)
        return f"{self.path}: {self.old} -> {self.new}" + (f" ({remark})" if remark else "")


def changes(old: Cluster, new: Cluster) -> tuple[Change, ...]:
    """What differs, in the order of the config."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    guests = before.pop("guests"), after.pop("guests")
    nodes = before.pop("nodes"), after.pop("nodes")
    found = [_judged(*difference) for difference in _differences(before, after, "")]
    names = [[node["name"] for node in side] for side in nodes]
    if names[0] != names[1]:
        found.append(_judged("nodes.name", names[0], names[1]))
    else:
        for name, was, will in zip(names[0], *nodes, strict=True):
            found += [_judged(*difference) for difference in _differences(was, will, f"nodes[{name}]")]
    return (*_kept_apart(found, old, new), *_guests(*guests))


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, old, new


def _judged(path: str, old: Any, new: Any) -> Change:
    effect, text = effect_of(path)
    return Change(path=path, old=_shown(old), new=_shown(new), effect=effect, text=text)


def effect_of(path: str) -> tuple[Effect, str]:
    """The nearest entry of EFFECTS at or above a path. Raises KeyError where there is none."""
    key = re.sub(r"\[[^]]*\]", "", path)
    while key not in EFFECTS and "." in key:
        key = key.rpartition(".")[0]
    return EFFECTS[key]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        value = ", ".join(map(_shown, value))
    elif isinstance(value, dict):
        value = ", ".join(f"{key} {_shown(one)}" for key, one in value.items() if one is not None)
    text = "none" if value is None or value == "" else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kept_apart(found: list[Change], old: Cluster, new: Cluster) -> list[Change]:
    """With a new timing of heartbeat refused by which the nodes would take each other for dead while only one has it.

    Each must beat twice before the other one gives up.
    """
    one, other = old.heartbeat, new.heartbeat
    if 2 * one.keepalive < other.deadtime and 2 * other.keepalive < one.deadtime:
        return found
    text = "too far from the old timing while only one node has it: change keepalive and deadtime in smaller steps"
    return [
        change.model_copy(update={"effect": "refused", "text": text})
        if change.path in ("heartbeat.keepalive", "heartbeat.deadtime")
        else change
        for change in found
    ]


def _guests(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[Change]:
    before, after = ({guest["name"]: guest for guest in side} for side in (old, new))
    for name in before.keys() - after.keys():
        remedy = f"it stays: `xenpair guest delete {name}` removes it with its disk"
        yield Change(path=f"guests[{name}]", old="there", new="none", effect="recorded", text=remedy)
    for name, guest in after.items():
        if name not in before:
            yield Change(
                path=f"guests[{name}]", old="none", new="there", effect="guests", text=f"made by {guest['home']}"
            )
            continue
        for path, was, will in _differences(before[name], guest, f"guests[{name}]"):
            change = _judged(path, was, will)
            if path.endswith("].disk") and parse_size(will) < parse_size(was):
                change = change.model_copy(update={"effect": "refused", "text": "a disk can only grow"})
            yield change
