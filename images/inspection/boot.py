"""What a grub.cfg offers to boot."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from images.errors import BuildError
from images.grub import default_entry, top_level_entries

_LOADING = ("multiboot", "multiboot2", "module", "module2", "linux", "linuxefi", "initrd", "initrdefi", "chainloader")


class BootEntry(BaseModel):
    """One entry of the menu. default: it boots when nobody touches a key; loads: its lines that load something."""

    model_config = ConfigDict(frozen=True)

    title: str
    default: bool
    loads: tuple[str, ...]


def boot_entries(config: str) -> tuple[BootEntry, ...]:
    """The entries of a grub.cfg; what a submenu holds is left out."""
    entries = [entry for entry in top_level_entries(config) if entry is not None]
    try:
        default = default_entry(config)
    except BuildError:
        default = None
    return tuple(
        BootEntry(
            title=entry.title,
            default=entry == default,
            loads=tuple(line for line in entry.lines if line.split()[:1] and line.split()[0] in _LOADING),
        )
        for entry in entries
    )
