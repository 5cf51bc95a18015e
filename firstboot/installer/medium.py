"""Installation from a medium, which holds all of it: the image, and the seed of one cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from config import payload
from config.machine import Machine
from firstboot.errors import ImageError, InstallError
from firstboot.installer.source import Assignment, Stream
from firstboot.places import Places
from firstboot.plan.identity import identity
from firstboot.steps import seed

DIRECTORY = "xenpair"
"""On the medium; holds the payload and the seed."""
SEED = "seed.img"
WHOLE = "write the medium anew, from an image that `invoke build-image --formats iso` has made"


def seed_image(medium: Path) -> Path:
    """The seed on a mounted medium. Raises InstallError where there is none."""
    return _file(medium, SEED)


class Medium:
    """A mounted medium, and the mounted seed of it."""

    def __init__(self, medium: Path, seed_directory: Path) -> None:
        self._medium = medium
        self._seed = seed_directory

    def identify(self, machine: Machine) -> Assignment:
        """By the config of the seed, all of which is looked at before anything is written."""
        cluster = seed.examine(self._seed).cluster
        return Assignment(cluster, identity(cluster, machine))

    def index(self) -> bytes:
        """From the medium."""
        return _read(self._medium, payload.INDEX)

    def signature(self) -> bytes:
        """From the medium."""
        return _read(self._medium, payload.SIGNATURE)

    def image(self, size: int) -> Stream:
        """From the medium. Raises ImageError where it is cut off."""
        path = _file(self._medium, payload.IMAGE)
        if (found := path.stat().st_size) < size:
            raise ImageError(f"{payload.IMAGE} is cut off: it has {found} bytes, and its index says {size}", hint=WHOLE)
        return path.open("rb", buffering=0)

    def hand_over(self, places: Places, waiting: Callable[[str], None]) -> None:
        """As first boot would take it."""
        seed.take(self._seed, places, waiting)


def _file(medium: Path, name: str) -> Path:
    path = medium / DIRECTORY / name
    if not path.is_file():
        raise InstallError(f"the medium has no {DIRECTORY}/{name}", hint=WHOLE)
    return path


def _read(medium: Path, name: str) -> bytes:
    try:
        return _file(medium, name).read_bytes()
    except OSError as e:
        raise InstallError(f"{DIRECTORY}/{name} on the medium cannot be read: {e.strerror}", hint=WHOLE) from e
