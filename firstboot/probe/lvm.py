"""Parser for LVM's JSON reports."""

from __future__ import annotations

import json
from dataclasses import dataclass

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
