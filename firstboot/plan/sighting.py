"""What was seen of a machine, in the form of the config, so that it can be copied into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from config.machine import Machine
from config.sizes import format_size
from firstboot.probe.disks import BlockDevice


def as_yaml(machine: Machine, devices: Sequence[BlockDevice]) -> str:
    """Lines for nodes[] of cluster.yaml: what stands behind a # is there to be chosen from."""
    return "\n".join(("nodes:", "  - name: NAME", *_matches(machine), *_cards(machine), *_disks(devices)))


def _matches(machine: Machine) -> Iterator[str]:
    seen = [
        *(("mac", mac, f"  # {name}") for name, mac in sorted(machine.nics.items())),
        *((("serial", machine.serial, ""),) if machine.serial else ()),
        *((("uuid", machine.uuid, ""),) if machine.uuid else ()),
    ]
    if not seen:
        yield "    # no network card, no DMI serial, no DMI UUID"
    for i, (key, value, comment) in enumerate(seen):
        yield f"    {'# or ' if i else ''}match: {{{key}: {_quoted(value)}}}{comment}"


def _cards(machine: Machine) -> Iterator[str]:
    yield "    nics:"
    for name, mac in sorted(machine.nics.items()):
        yield f"      # guest or cluster: {_quoted(mac)}  # {name}"


def _disks(devices: Sequence[BlockDevice]) -> Iterator[str]:
    yield "    disks:"
    for disk in (d for d in devices if d.type == "disk" and d.size > 0):
        key, value = next(((k, v) for k, v in (("serial", disk.serial), ("wwn", disk.wwn)) if v), ("model", disk.model))
        state = ", in use" if disk.in_use else ""
        about = f"{disk.path}, {format_size(disk.size)}, {disk.model or 'no model'}{state}"
        yield f"      # system or backing: {{{key}: {_quoted(value)}}}  # {about}"


def _quoted(text: str) -> str:
    return json.dumps(text)
