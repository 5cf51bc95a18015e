"""The guests of the pair, as their volumes' tags tell it."""

from __future__ import annotations

from collections.abc import Callable

from firstboot import observe
from firstboot.errors import ProbeError
from firstboot.guests.definition import Guest, from_tags
from firstboot.probe.lvm import LVS_OPTIONS, LogicalVolume, parse_lvs


def registry(volume_group: str, glance: float | None = None) -> tuple[Guest, ...]:
    """All guests, in the order of LVM; glance: see observe.look_at.

    Raises CommandError, and ProbeError for tags that describe no guest.
    """
    return guests_of(logical_volumes(volume_group, glance))


def legible(volume_group: str, report: Callable[[ProbeError], None]) -> tuple[Guest, ...]:
    """The same for those who must not be stopped by one volume whose tags make no sense: report is told of each."""
    found: list[Guest] = []
    for volume in logical_volumes(volume_group):
        try:
            found += guests_of((volume,))
        except ProbeError as e:
            report(e)
    return tuple(found)


def logical_volumes(volume_group: str, glance: float | None = None) -> tuple[LogicalVolume, ...]:
    """All volumes of the group, guests' or not; glance: see observe.look_at."""
    options = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o", LVS_OPTIONS]
    return parse_lvs(observe.look_at(["lvs", *options, volume_group], glance).stdout)


def guests_of(volumes: tuple[LogicalVolume, ...]) -> tuple[Guest, ...]:
    """Those of the volumes that are guests. Raises ProbeError."""
    found = ((volume, from_tags(volume.name, volume.tags)) for volume in volumes)
    return tuple(Guest(definition, volume.size, volume.uuid) for volume, definition in found if definition is not None)
