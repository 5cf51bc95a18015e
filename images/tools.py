"""Programs of the image that the build runs on this host: so no image depends on the versions that a host has.

They stand in the layer of the root file system, with the libraries that they take, and the parts that GRUB is put
together of.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from images.tree import Tree

DIRECTORY = "tools"
_PROGRAMS = ("usr/sbin/debugfs", "usr/sbin/tune2fs", "usr/bin/grub-mkimage")
BIOS, UEFI = PLATFORMS = ("i386-pc", "x86_64-efi")
"""Of GRUB."""
_LOADER = "ld.so"
_LIBRARIES = "lib"
_LISTED = re.compile(r"(/\S+) \(0x")
"""A library with its place, as ld.so(8) lists it."""


@dataclass(frozen=True)
class Tools:
    """Where they stand."""

    path: Path

    def argv(self, program: str) -> list[str]:
        """What runs one of them, seen from this host's root."""
        return [str(self.path / _LOADER), "--library-path", str(self.path / _LIBRARIES), str(self.path / program)]

    def grub(self, platform: str) -> Path:
        """The directory of GRUB's parts for a platform."""
        return self.path / "grub" / platform


def take(tree: Tree, target: Path) -> None:
    """Copy them out of a tree."""
    (target / _LIBRARIES).mkdir(parents=True)
    shutil.copy2(tree.path / "usr/lib64/ld-linux-x86-64.so.2", target / _LOADER)
    for program in _PROGRAMS:
        shutil.copy2(tree.path / program, target)
        for library in _LISTED.findall(tree.run("/lib64/ld-linux-x86-64.so.2", "--list", f"/{program}").stdout):
            shutil.copy2(tree.path / library.lstrip("/"), target / _LIBRARIES)
    for platform in PLATFORMS:
        shutil.copytree(tree.path / "usr/lib/grub" / platform, target / "grub" / platform)
