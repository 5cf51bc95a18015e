"""The install medium, read with xorriso: what boots it, and the disk image that it installs."""

from __future__ import annotations

import os
from pathlib import Path

import zstandard
from pydantic import BaseModel, ConfigDict

from config.door import run
from config.payload import IMAGE, INDEX, parse_index
from images.errors import InspectError
from images.inspection.boot import BootEntry, boot_entries

_TIMEOUT = 600.0
_MENU = "boot/grub/grub.cfg"
_PAYLOAD = "xenpair"


class Medium(BaseModel):
    """An ISO. key: content key of the image that it installs, as in its manifest; empty where it installs none."""

    model_config = ConfigDict(frozen=True)

    size: int
    """Bytes of the file."""
    key: str
    entries: tuple[BootEntry, ...]

    @classmethod
    def read(cls, iso: Path, scratch: Path) -> Medium:
        """Raises CommandError without xorriso, PayloadError where the index of its payload is none."""
        menu = _extracted(iso, _MENU, scratch / "grub.cfg")
        index = _extracted(iso, f"{_PAYLOAD}/{INDEX}", scratch / INDEX)
        return cls(
            size=iso.stat().st_size,
            key=parse_index(index.read_bytes(), f"{_PAYLOAD}/{INDEX}").key if index else "",
            entries=boot_entries(menu.read_text(errors="replace")) if menu else (),
        )


def unpack(iso: Path, scratch: Path) -> Path:
    """The raw disk image that a medium of ours installs, sparse. Raises InspectError where it is damaged."""
    index = parse_index((scratch / INDEX).read_bytes(), INDEX)
    packed, raw = scratch / IMAGE, scratch / "installed.raw"
    run(_extract_argv(iso, f"{_PAYLOAD}/{IMAGE}", packed), timeout=_TIMEOUT)
    unpacker = zstandard.ZstdDecompressor()
    with packed.open("rb") as source, raw.open("xb") as disk:
        disk.truncate(index.disk_size)
        for piece in index.pieces:
            frame = os.pread(source.fileno(), piece.packed_size, piece.packed_at)
            try:
                os.pwrite(disk.fileno(), unpacker.decompress(frame, max_output_size=piece.size), piece.at)
            except zstandard.ZstdError as e:
                raise InspectError(f"the medium's image is damaged at byte {piece.packed_at}: {e}") from e
    packed.unlink()
    return raw


def _extracted(iso: Path, name: str, target: Path) -> Path | None:
    """The file under that name in the ISO; None where there is none."""
    run(_extract_argv(iso, name, target), check=False, timeout=_TIMEOUT)
    return target if target.is_file() else None


def _extract_argv(iso: Path, name: str, target: Path) -> list[str | Path]:
    return ["xorriso", "-osirrox", "on", "-indev", iso, "-extract_single", f"/{name}", target]
