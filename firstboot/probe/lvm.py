"""Parsers for LVM's JSON reports."""

from __future__ import annotations

import json
from dataclasses import dataclass

from firstboot.blocks import Blocks
from firstboot.errors import ProbeError

VGS_OPTIONS = "vg_name,vg_uuid,vg_seqno,vg_size,vg_free,pv_name"


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group as this node sees it; sizes in bytes; seqno counts the changes of its metadata."""

    name: str
    uuid: str
    seqno: int
    size: int
    free: int
    physical_volume: str


def parse_vgs(text: str) -> tuple[VolumeGroup, ...]:
    """What `vgs --reportformat json --units b --nosuffix -o VGS_OPTIONS` printed. Raises ProbeError."""
    try:
        rows = json.loads(text)["report"][0]["vg"]
        return tuple(
            VolumeGroup(
                row["vg_name"],
                row["vg_uuid"],
                int(row["vg_seqno"]),
                int(row["vg_size"]),
                int(row["vg_free"]),
                row["pv_name"],
            )
            for row in rows
        )
    except (ValueError, KeyError, IndexError, TypeError) as e:
        raise ProbeError(f"vgs printed what is not its JSON report: {e}: {text[:200]!r}") from e


LVS_OPTIONS = "lv_name,lv_uuid,lv_size,lv_tags"


@dataclass(frozen=True)
class LogicalVolume:
    """A logical volume by its name, and what it is marked with; size in bytes."""

    name: str
    uuid: str
    size: int
    tags: tuple[str, ...]


def parse_lvs(text: str) -> tuple[LogicalVolume, ...]:
    """What `lvs --reportformat json --units b --nosuffix -o LVS_OPTIONS` printed. Raises ProbeError."""
    try:
        rows = json.loads(text)["report"][0]["lv"]
        return tuple(
            LogicalVolume(
                row["lv_name"], row["lv_uuid"], int(row["lv_size"]), tuple(filter(None, row["lv_tags"].split(",")))
            )
            for row in rows
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise ProbeError(f"lvs printed what is not its JSON report: {e}: {text[:200]!r}") from e


SEGMENTS_OPTIONS = (
    "vg_name,vg_seqno,vg_extent_size,pe_start,pvseg_start,pvseg_size,lv_name,lv_uuid,seg_start_pe,segtype"
)


@dataclass(frozen=True)
class Volume:
    """A logical volume and the byte ranges that it consists of on the replicated device, in its own order."""

    name: str
    uuid: str
    pieces: tuple[tuple[int, int], ...]

    @property
    def blocks(self) -> Blocks:
        """The 4-KiB blocks that begin in it."""
        found = Blocks()
        for start, end in self.pieces:
            found |= Blocks.of_bytes(start, end)
        return found


@dataclass(frozen=True)
class Map:
    """How a volume group lies on its one physical volume. data_start: bytes that LVM keeps for itself."""

    seqno: int
    data_start: int
    volumes: tuple[Volume, ...]


def parse_segments(text: str, volume_group: str) -> Map:
    """What `pvs --segments --reportformat json --units b --nosuffix -o SEGMENTS_OPTIONS` printed. Raises ProbeError."""
    try:
        rows = [row for row in json.loads(text)["report"][0]["pvseg"] if row["vg_name"] == volume_group]
        found: dict[tuple[str, str], list[tuple[int, tuple[int, int]]]] = {}
        for row in rows:
            if not row["lv_name"]:
                continue
            if row["segtype"] != "linear":
                raise ProbeError(f"{row['lv_name']} is not a linear volume: {row['segtype']}")
            extent = int(row["vg_extent_size"])
            start = int(row["pe_start"]) + int(row["pvseg_start"]) * extent
            piece = (start, start + int(row["pvseg_size"]) * extent)
            found.setdefault((row["lv_name"], row["lv_uuid"]), []).append((int(row["seg_start_pe"]), piece))
        volumes = tuple(
            Volume(name, uuid, tuple(piece for _, piece in sorted(pieces))) for (name, uuid), pieces in found.items()
        )
        return Map(int(rows[0]["vg_seqno"]), int(rows[0]["pe_start"]), volumes)
    except (ValueError, KeyError, IndexError, TypeError) as e:
        raise ProbeError(f"pvs did not report the volume group {volume_group}: {e}: {text[:200]!r}") from e
