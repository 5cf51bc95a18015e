"""Parsers for block devices: lsblk --json, wipefs --json, and the bytes at both ends of a disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from firstboot.errors import ProbeError

LSBLK_COLUMNS = (
    "NAME,PATH,TYPE,SIZE,LOG-SEC,RO,RM,TRAN,SERIAL,WWN,MODEL,"
    "PTTYPE,PTUUID,PARTUUID,PARTLABEL,FSTYPE,UUID,LABEL,MOUNTPOINTS"
)


@dataclass(frozen=True)
class BlockDevice:
    """A disk, a partition or what lies on one. size is in bytes; absent values are empty strings.

    sector: bytes of a logical sector, in which a partition table counts. uuid: of what is on it; on half of a mirror
    that is the array's.
    """

    path: str
    type: str
    size: int
    read_only: bool = False
    removable: bool = False
    transport: str = ""
    serial: str = ""
    wwn: str = ""
    model: str = ""
    pttype: str = ""
    ptuuid: str = ""
    partuuid: str = ""
    partlabel: str = ""
    fstype: str = ""
    uuid: str = ""
    label: str = ""
    mountpoints: tuple[str, ...] = ()
    sector: int = 512
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
        removable=raw.get("rm") in (True, "1", 1),
        transport=text("tran"),
        serial=text("serial"),
        wwn=text("wwn"),
        model=text("model"),
        pttype=text("pttype"),
        ptuuid=text("ptuuid"),
        partuuid=text("partuuid"),
        partlabel=text("partlabel"),
        fstype=text("fstype"),
        uuid=text("uuid"),
        label=text("label"),
        mountpoints=tuple(m for m in raw.get("mountpoints") or [] if m),
        sector=int(raw.get("log-sec") or 512),
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


EDGE = 8 << 20
"""Bytes at either end of a disk that are looked at, and cleared by a wipe. All that libblkid knows a disk by stands in
the first 5 MiB (LUKS2's last second header is at 4 MiB) or in the last one, of the disk or of a partition on it; a
single partition begins 1 MiB in and ends less than 2 MiB before the end."""
TABLE_ROOM = 32 << 10
"""Bytes at either end in which a GPT stands: 34 sectors of 512 bytes, or 6 of 4 KiB (UEFI specification)."""
BLOCK = 4 << 10
SECTOR = 512

_REMAINS = (
    ("drbd", b"\x83\x74\x02\x6b", 60),  # linux/drivers/block/drbd: meta_data_on_disk, DRBD_MD_MAGIC_08
    ("drbd", b"\x83\x74\x02\x6c", 60),  # DRBD_MD_MAGIC_84_UNCLEAN
    ("LVM2_member", b"LABELONE", 0),  # lvm2, label.h
    ("linux_raid_member", b"\xfc\x4e\x2b\xa9", 0),  # linux/raid/md_p.h, MD_SB_MAGIC, as little-endian machines write it
    ("gpt", b"EFI PART", 0),  # UEFI specification, GPT header
    ("crypto_LUKS", b"LUKS\xba\xbe", 0),  # LUKS on-disk format
    ("xfs", b"XFSB\x00\x00", 0),  # xfs_format.h; the block size that follows is at most 64 KiB
    ("btrfs", b"_BHRfS_M", 64),  # linux/btrfs_tree.h
    ("swap", b"SWAPSPACE2", 502),  # linux/swap.h, the end of a 4 KiB page
)
"""Kind, magic, and where in its sector it stands; for what a partition that is gone has left, at any sector."""

_OWN_NAME = re.compile("xenpair-".encode("utf-16-le") + rb"(?:[!-~]\x00){0,28}")
"""A partition name as a GPT holds it: UTF-16, at most 36 characters."""


@dataclass(frozen=True)
class Edges:
    """What stands at the two ends of a disk.

    data: offsets of the blocks (4 KiB) that are not all zero. remains: what they are known by, the first of each kind.
    names: names of partitions, there or gone, that a first boot of some cluster has made.
    """

    data: tuple[int, ...] = ()
    remains: tuple[Signature, ...] = ()
    names: tuple[str, ...] = ()

    def beyond_table(self, size: int) -> tuple[int, ...]:
        """Those blocks of a disk of that size that no GPT accounts for."""
        return tuple(at for at in self.data if TABLE_ROOM <= at < size - TABLE_ROOM)


def edge_ranges(size: int) -> tuple[tuple[int, int], ...]:
    """Offset and length of the two ends of a disk; of all of it where it is that small."""
    return ((0, EDGE), (size - EDGE, EDGE)) if size > 2 * EDGE else ((0, size),)


def parse_edges(device: str, pieces: Mapping[int, bytes]) -> Edges:
    """What the bytes at the ends of a disk say. pieces: bytes by their offset, which is a multiple of 512."""
    blank = bytes(BLOCK)
    data: list[int] = []
    remains: dict[str, Signature] = {}
    names: dict[str, None] = {}
    for start, piece in pieces.items():
        blocks = [at for at in range(0, len(piece), BLOCK) if piece[at : at + BLOCK] != blank[: len(piece) - at]]
        data += [start + at for at in blocks]
        if not blocks:
            continue
        for kind, magic, within in _REMAINS:
            at = _find_in_sector(piece, magic, within)
            if at is not None and kind not in remains:
                remains[kind] = Signature(device, kind, start + at)
        names |= {match[0].decode("utf-16-le"): None for match in _OWN_NAME.finditer(piece)}
    return Edges(tuple(data), tuple(remains.values()), tuple(names))


def _find_in_sector(piece: bytes, magic: bytes, within: int) -> int | None:
    at = piece.find(magic)
    while at >= 0:
        if at % SECTOR == within:
            return at
        at = piece.find(magic, at + 1)
    return None


@dataclass(frozen=True)
class Contents:
    """All that was found on a disk: signatures of it and of its partitions, and what stands at its ends.

    held: the kernel uses it or a part of it, be it mounted or below another device.
    """

    signatures: tuple[Signature, ...] = ()
    edges: Edges = Edges()
    held: bool = False
