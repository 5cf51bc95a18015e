"""The build host's block devices, as lsblk shows them: which there are, what lies on them, what is in use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from config.door import run
from images.errors import StickError

COLUMNS = "PATH,MAJ:MIN,TYPE,SIZE,RO,RM,TRAN,MODEL,SERIAL,PTTYPE,PTUUID,FSTYPE,LABEL,MOUNTPOINTS"


@dataclass(frozen=True)
class BlockDevice:
    """A disk, a partition or what lies on one. size in bytes; numbers: major:minor; absent values are empty strings."""

    path: str
    numbers: str
    type: str
    size: int
    read_only: bool = False
    removable: bool = False
    transport: str = ""
    model: str = ""
    serial: str = ""
    pttype: str = ""
    ptuuid: str = ""
    fstype: str = ""
    label: str = ""
    mountpoints: tuple[str, ...] = ()
    children: tuple[BlockDevice, ...] = ()

    def walk(self) -> Iterator[BlockDevice]:
        """This device and all that lies on it: partitions, and what is made of them (dm-crypt, LVM, md)."""
        yield self
        for child in self.children:
            yield from child.walk()

    def mounts(self) -> Iterator[tuple[BlockDevice, str]]:
        """Whatever of it is mounted, with the place; swap's is [SWAP]."""
        return ((device, place) for device in self.walk() for place in device.mountpoints)

    @property
    def holder(self) -> BlockDevice | None:
        """The first device that is made of it or of a part of it; None where there are only partitions."""
        return next((device for device in self.walk() if device is not self and device.type != "part"), None)


def block_devices() -> tuple[BlockDevice, ...]:
    """The top-level devices of this host. Raises CommandError without lsblk."""
    return parse_lsblk(run(["lsblk", "--json", "--bytes", "--output", COLUMNS]).stdout)


def parse_lsblk(text: str) -> tuple[BlockDevice, ...]:
    """What `lsblk --json --bytes --output COLUMNS` printed. Raises StickError."""
    try:
        return tuple(_device(raw) for raw in json.loads(text)["blockdevices"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise StickError(f"lsblk printed what is not its JSON: {e}: {text[:200]!r}") from e


def carrier(devices: Sequence[BlockDevice], numbers: str) -> tuple[BlockDevice, BlockDevice] | None:
    """The device with these numbers, and the top-level one that it lies on, which may be itself."""
    for top in devices:
        for device in top.walk():
            if device.numbers == numbers:
                return device, top
    return None


def _device(raw: dict[str, Any]) -> BlockDevice:
    def text(key: str) -> str:
        return str(raw.get(key) or "").strip()

    return BlockDevice(
        path=raw["path"],
        numbers=raw["maj:min"].strip(),
        type=raw["type"],
        size=int(raw["size"]),
        read_only=raw["ro"] in (True, "1", 1),
        removable=raw["rm"] in (True, "1", 1),
        transport=text("tran"),
        model=text("model"),
        serial=text("serial"),
        pttype=text("pttype"),
        ptuuid=text("ptuuid"),
        fstype=text("fstype"),
        label=text("label"),
        mountpoints=tuple(place for place in raw.get("mountpoints") or [] if place),
        children=tuple(_device(child) for child in raw.get("children", [])),
    )
