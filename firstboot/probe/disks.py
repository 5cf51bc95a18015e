"""Parsers for block devices: lsblk --json and wipefs --json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from firstboot.errors import ProbeError

LSBLK_COLUMNS = "NAME,PATH,TYPE,SIZE,RO,SERIAL,WWN,MODEL,PTTYPE,PTUUID,PARTUUID,PARTLABEL,FSTYPE,LABEL,MOUNTPOINTS"


@dataclass(frozen=True)
class BlockDevice:
    """A disk, a partition or what lies on one. size is in bytes; absent values are empty strings."""

    path: str
    type: str
    size: int
    read_only: bool = False
    serial: str = ""
    wwn: str = ""
    model: str = ""
    pttype: str = ""
    ptuuid: str = ""
    partuuid: str = ""
    partlabel: str = ""
    fstype: str = ""
    label: str = ""
    mountpoints: tuple[str, ...] = ()
    children: tuple[BlockDevice, ...] = field(default=())

    def walk(self) -> Iterator[BlockDevice]:
        """This device and all that lies on it."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def in_use(self) -> bool:
        """Whether anything of it is mounted or is swap."""
        return any(device.mountpoints for device in self.walk())


def parse_lsblk(text: str) -> tuple[BlockDevice, ...]:
    """What `lsblk --json --bytes --output LSBLK_COLUMNS` printed: the top-level devices. Raises ProbeError."""
    try:
        return tuple(_device(raw) for raw in json.loads(text)["blockdevices"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ProbeError(f"lsblk printed what is not its JSON: {e}: {text[:200]!r}") from e


def _device(raw: dict[str, Any]) -> BlockDevice:
    def text(key: str) -> str:
        return str(raw.get(key) or "").strip()

    return BlockDevice(
        path=raw["path"],
        type=raw["type"],
        size=int(raw["size"]),
        read_only=raw["ro"] in (True, "1", 1),
        serial=text("serial"),
        wwn=text("wwn"),
        model=text("model"),
        pttype=text("pttype"),
        ptuuid=text("ptuuid"),
        partuuid=text("partuuid"),
        partlabel=text("partlabel"),
        fstype=text("fstype"),
        label=text("label"),
        mountpoints=tuple(m for m in raw.get("mountpoints") or [] if m),
        children=tuple(_device(child) for child in raw.get("children", [])),
    )


@dataclass(frozen=True)
class Signature:
    """Something that a disk is known by: its kind and where it stands (bytes from the start)."""

    device: str
    kind: str
    offset: int

    def __str__(self) -> str:
        return f"{self.kind} at byte {self.offset} of {self.device}"


def parse_wipefs(text: str) -> tuple[Signature, ...]:
    """What `wipefs --json --no-act DEVICE` printed; it prints nothing where it finds nothing. Raises ProbeError."""
    if not text.strip():
        return ()
    try:
        return tuple(
            Signature(raw["device"], raw["type"], int(raw["offset"], 16)) for raw in json.loads(text)["signatures"]
        )
    except (ValueError, KeyError, TypeError) as e:
        raise ProbeError(f"wipefs printed what is not its JSON: {e}: {text[:200]!r}") from e
