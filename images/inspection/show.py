"""Inspections and differences as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from config.sizes import format_size
from images.dpkg import Package
from images.inspection.boot import BootEntry
from images.inspection.difference import Difference, FileState
from images.inspection.report import Baked, Inspection
from images.listing import columns


def lines(found: Inspection) -> Iterator[str]:
    """Its lines, from the outside to the inside."""
    table = f"partition table {found.table}" if found.table else "no partition table"
    if found.medium:
        what = f"installs the image {found.medium.key}" if found.medium.key else "holds no image of xenpair's"
        yield f"{found.image}: an ISO, which {what}"
        yield from _menu(found.medium.entries, "it boots:")
        yield f"the disk: {format_size(found.size)}, {table}"
    else:
        yield f"{found.image}: {found.format}, a disk of {format_size(found.size)}, {table}"
    yield from _partitions(found)
    yield f"boots by: {' and '.join(found.firmware) or 'nothing that is known here'}"
    yield from _menu(found.entries, "boot entries:")
    if found.release:
        yield f"system: {found.release}, {len(found.packages)} packages" + (", among them:" if found.important else "")
    yield from columns([_package(package) for package in found.important])
    if found.xenpair:
        yield from _baked(found.xenpair)
    yield from (f"not known: {what}" for what in found.unknown)


def difference(found: Difference) -> Iterator[str]:
    """A line for each thing that differs: + only in the new image, - only in the old one, ~ in both."""
    for title, changes in (("disk", found.disk), ("packages", found.packages)):
        if changes:
            yield f"{title}:"
        for change in changes:
            values = " -> ".join(value for value in (change.old, change.new) if value is not None)
            yield f"  {_sign(change.old, change.new)} {change.what} {values}"
    if found.files:
        yield "files:"
    for file in found.files:
        yield f"  {_sign(file.old, file.new)} {file.path}: {_what_differs(file.old, file.new)}"
    counts = ((len(found.disk), "of the disk"), (len(found.packages), "packages"), (len(found.files), "files"))
    yield ", ".join(f"{count} {what}" for count, what in counts) + " differ" if found else "the same (but for times)"


def _sign(old: object, new: object) -> str:
    return "+" if old is None else "-" if new is None else "~"


def _what_differs(old: FileState | None, new: FileState | None) -> str:
    if old is None or new is None:
        (state,) = filter(None, (old, new))
        return " ".join(filter(None, (state.type, state.mode, state.owner, f"{state.size} bytes")))
    told = [
        f"{name} {before} -> {after}"
        for (name, before), (_, after) in zip(old, new, strict=True)
        if before != after and name != "sha256"
    ]
    return ", ".join(told) or "content"


def _partitions(found: Inspection) -> Iterator[str]:
    heads = ("partition", "start", "size", "holds", "UUID", "label")
    rows = [
        (
            partition.name or str(number),
            format_size(partition.start) if partition.start else "0",
            format_size(partition.size),
            partition.filesystem or "no file system",
            partition.filesystem_uuid,
            partition.label,
        )
        for number, partition in enumerate(found.partitions, 1)
    ]
    return columns([heads, *rows])


def _menu(entries: Sequence[BootEntry], title: str) -> Iterator[str]:
    if entries:
        yield title
    for entry in entries:
        yield f"  {'*' if entry.default else '-'} {entry.title}"
        yield from (f"      {line}" for line in entry.loads)


def _package(package: Package) -> tuple[str, str, str]:
    same = (package.name, package.version) == (package.source, package.source_version)
    version = "" if package.version == package.source_version else f" {package.source_version}"
    return package.name, package.version, "" if same else f"of {package.source}{version}"


def _baked(baked: Baked) -> Iterator[str]:
    yield f"xenpair-firstboot {baked.version}: {len(baked.files)} files"
    yield f"settings: {' '.join(baked.settings)}"
    yield f"units enabled: {' '.join(baked.enabled)}"
    yield f"units masked: {' '.join(baked.masked)}"
