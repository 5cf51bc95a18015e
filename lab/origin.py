"""What a lab's empty servers are installed from: files of one build, kept in the lab's directory."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

from config import loader, secrets
from config.carried import beside
from config.door import write_file
from config.guest import files
from images import manifest, netboot
from images.cache import content_key
from images.disklayer import LOADERS, TREE
from images.iso import Medium, write_iso
from images.manifest import Manifest
from lab import disks, machine, media
from lab.choices import one_of
from lab.errors import LabError
from lab.media import Via
from lab.state import State

SERVED = "served"
"""Directory of what the install server is given: config, secrets, guests' files."""
CONFIG = "cluster.yaml"


@dataclass(frozen=True)
class Origin:
    """What `invoke build-image` has left in out, and by which way it gets onto the servers."""

    via: Via
    out: Path
    made: Manifest

    @classmethod
    def read(cls, via: str, out: Path) -> Self:
        """Raises LabError where there is no such way, or out does not hold what it takes."""
        known: Via = one_of(get_args(Via), via, f"nothing can be installed via {via!r}", "it is one of")
        made = manifest.read(out)
        if made is None or not netboot.has_payload(made) or (known == "pxe" and not netboot.has_ipxe(made)):
            raise LabError(f"{out} holds no installer", hint="`invoke build-image --formats iso,netboot` makes it")
        return cls(known, out, made)

    @property
    def key(self) -> str:
        """Of all that is installed, and of what installs it."""
        below = (f"{TREE}/", f"{LOADERS}/")
        return content_key({name: a.sha256 for name, a in self.made.artifacts.items() if name.startswith(below)})

    def check(self) -> None:
        """Whether the lab can be installed that way. Raises LabError."""
        if self.via == "pxe" and os.geteuid() != 0:
            raise LabError("a network installation in the lab takes root", hint="use sudo, or --via usb")

    def adopt(self, directory: Path, config_file: Path, secrets_yaml: str) -> None:
        """Keep it in the lab, whose seed medium is there already."""
        if self.via != "pxe":
            write_iso(Medium(directory / media.MEDIUM, self.out, self.made, directory / machine.SEED))
            return
        for name in (name for name in self.made.artifacts if name.startswith(f"{TREE}/")):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            disks.keep(self.out / name, directory / name)
        loaded, served = loader.load(config_file), directory / SERVED
        # The server takes everything from beside the config: a copy, for a lab goes on with what it was made of.
        served.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(config_file, served / CONFIG)
        for name in files(loaded.cluster):
            disks.keep(beside(config_file.resolve(), name), served / name)
        kept = secrets.secrets_file(loaded.cluster, served / "secrets")
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        write_file(kept, secrets_yaml, mode=0o600)


Image = Path | Origin
"""What is on the nodes' disks from the beginning, or what they are installed from."""


def check(image: Image) -> None:
    """Whether a lab can be made of it. Raises LabError."""
    if isinstance(image, Path):
        disks.check(image)
    else:
        image.check()


def adopt(image: Image, state: State, directory: Path, config_file: Path | None, secrets_yaml: str) -> State:
    """Keep it in the lab; the lab's state with it. Raises LabError for an installation without a config."""
    if isinstance(image, Path):
        disks.adopt(image, directory)
        return state
    if config_file is None:
        raise LabError("an installation takes a config file")
    image.adopt(directory, config_file, secrets_yaml)
    # What the seed medium holds, the installer brings.
    return state.model_copy(update={"seeded": False, "via": image.via, "origin": image.key})


def same(image: Image, directory: Path, state: State) -> bool:
    """Whether the lab was made of it."""
    if isinstance(image, Path):
        return state.via is None and disks.same(image, directory)
    return (image.via, image.key) == (state.via, state.origin)
