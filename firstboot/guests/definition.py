"""A guest as the pair keeps it: as tags on its own logical volume.

The volume group is the one thing that both nodes see alike, that survives either of them, and that changes under one
lock. So a guest and its disk come and go together, and there is no second list that could disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from firstboot.errors import ProbeError

MARK = "xenpair.guest"
"""The tag that makes a logical volume a guest's disk."""
PREFIX = "xenpair."
TAG_LIMIT = 1024
"""Characters that a tag may have (lvm(8), TAGS)."""

_PLAIN = re.compile(r"[A-Za-z0-9_+.:/-]")
"""What stands for itself in a value; lvm(8) allows = ! & # too, which we need for ourselves."""

_ESCAPED = re.compile(r"(?:[A-Za-z0-9_+.:/-]|#[0-9A-F]{2})*")

Kind = Literal["pvh", "pv"]
Wanted = Literal["running", "stopped"]
Phase = Literal["making", "ready", "deleting"]


@dataclass(frozen=True)
class Definition:
    """A guest. memory: bytes; address: like 192.168.132.50/24, or dhcp; options: further settings of its xl.cfg.

    kernel and ramdisk: paths on both nodes, empty for dom0's own; phase: making and deleting mark what was begun and is
    finished or taken back at the next call.
    """

    name: str
    home: str
    memory: int
    vcpus: int
    kind: Kind
    bridge: str
    mac: str
    address: str = "dhcp"
    gateway: str = ""
    boot: Literal["host", "guest"] = "host"
    kernel: str = ""
    ramdisk: str = ""
    arguments: str = ""
    priority: int = 50
    restart: Literal["always", "on-crash", "never"] = "always"
    options: tuple[tuple[str, str], ...] = ()
    wanted: Wanted = "running"
    phase: Phase = "ready"


@dataclass(frozen=True)
class Guest:
    """A definition and the volume that carries it. size: bytes of the volume; uuid: the volume's."""

    definition: Definition
    size: int
    uuid: str

    @property
    def name(self) -> str:
        """Of the guest, and of its volume."""
        return self.definition.name


def to_tags(definition: Definition) -> tuple[str, ...]:
    """All that differs from a default, as tags; its name is the volume's. Raises ValueError for what is too long."""
    tags = [MARK]
    for field in fields(definition):
        value = getattr(definition, field.name)
        if field.name == "name" or value == field.default:
            continue
        if field.name == "options":
            tags += [f"{PREFIX}option.{_escaped(key)}={_escaped(text)}" for key, text in value]
        else:
            tags.append(f"{PREFIX}{field.name}={_escaped(str(value))}")
    for tag in tags:
        if len(tag) > TAG_LIMIT:
            raise ValueError(f"{tag.partition('=')[0].removeprefix(PREFIX)} is too long to be kept as a tag of LVM")
    return tuple(tags)


def from_tags(name: str, tags: Iterable[str]) -> Definition | None:
    """The guest of that volume, or None where the tags are of no guest. Raises ProbeError for tags that make no sense.

    Tags that are not ours, and keys that a later version may have added, are passed over.
    """
    ours = [tag.removeprefix(PREFIX) for tag in tags if tag.startswith(PREFIX)]
    if MARK.removeprefix(PREFIX) not in ours:
        return None
    known = {field.name for field in fields(Definition)} - {"name", "options"}
    found: dict[str, Any] = {"name": name}
    options = []
    try:
        for tag in ours:
            key, equals, value = tag.partition("=")
            if equals and key.startswith("option."):
                options.append((_plain(key.removeprefix("option.")), _plain(value)))
            elif equals and key in known:
                found[key] = _plain(value)
        for key in ("memory", "vcpus", "priority"):
            if key in found:
                found[key] = int(found[key])
        definition = Definition(**found, options=tuple(sorted(options)))
    except (TypeError, ValueError) as e:
        raise ProbeError(
            f"the tags of volume {name} describe no guest: {e}", hint="`lvs -o +lv_tags` shows them"
        ) from e
    _check_choices(definition)
    return definition


def _check_choices(definition: Definition) -> None:
    for key, hint in get_type_hints(Definition).items():
        choices = getattr(hint, "__args__", ()) if getattr(hint, "__origin__", None) is Literal else ()
        if choices and getattr(definition, key) not in choices:
            raise ProbeError(
                f"the tags of volume {definition.name} describe no guest: {key} is {getattr(definition, key)!r}",
                hint="a newer xenpair may have written them: bring both nodes to the same version",
            )


def _escaped(text: str) -> str:
    return "".join(c if _PLAIN.fullmatch(c) else "".join(f"#{byte:02X}" for byte in c.encode()) for c in text)


def _plain(text: str) -> str:
    """Raises ValueError for what _escaped does not write."""
    if not _ESCAPED.fullmatch(text):
        raise ValueError(f"{text!r} is not escaped as we do it")
    return re.sub(rb"#([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), text.encode()).decode()
