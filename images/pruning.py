"""`invoke cache`: what the layers take, which of them an image needs, and which may go.

Each build notes which layers the image in its out directory is made of, so that a small change to that one stays small.
The note holds for as long as that image stands there.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from config.capacity import about
from config.door import write_file
from images import manifest
from images.cache import Cache, content_key
from images.errors import BuildError
from images.listing import columns
from images.progress import Progress
from images.span import seconds

_NOTES = "images"
_BLOCK = 512
"""Bytes that st_blocks counts by (stat(2))."""


class _Note(BaseModel):
    """Which layers the image with that key, in that out directory, was made of: kind and key of each."""

    model_config = ConfigDict(frozen=True)

    out: Path
    key: str
    layers: frozenset[tuple[str, str]]

    def stands(self) -> bool:
        """Whether that image is still there."""
        found = manifest.read(self.out)
        return found is not None and found.key == self.key


@dataclass(frozen=True)
class Layer:
    """A finished layer. size: bytes on the disk; last_used: seconds since the epoch; needed: by an image."""

    kind: str
    key: str
    size: int
    last_used: float
    needed: bool


def keep_for(out: Path, key: str, cache: Cache) -> None:
    """Note that the image with that key, in out, is made of all layers that this cache was asked for."""
    path = cache.root / _NOTES / content_key({"out": str(out.absolute())})
    before = _read_note(path)
    layers = cache.used | (before.layers if before and before.key == key else set())
    write_file(path, _Note(out=out.absolute(), key=key, layers=frozenset(layers)).model_dump_json() + "\n")


def layers(cache: Cache) -> list[Layer]:
    """All finished layers, the one that was used last at the end."""
    needed = {layer for note in _notes(cache) if note.stands() for layer in note.layers}
    found = []
    for lock in cache.locks.glob("*-*"):
        kind, _, key = lock.name.partition("-")
        if (path := cache.layer(kind, key)).exists():
            found.append(Layer(kind, key, _size(path), lock.stat().st_mtime, (kind, key) in needed))
    return sorted(found, key=lambda layer: layer.last_used)


def superfluous(found: Iterable[Layer], before: float) -> list[Layer]:
    """Those that no image needs, and that nobody has used since then (seconds since the epoch)."""
    return [layer for layer in found if not layer.needed and layer.last_used < before]


def parse_age(text: str) -> float:
    """Seconds of an age. Raises BuildError."""
    if (age := seconds(text, "mhd")) is None:
        raise BuildError(f"--older-than {text!r} is not a span of time", hint="write it like 12h or 30d")
    return age


def show(root: Path) -> None:
    """Print what each kind of layer takes."""
    sys.stdout.writelines(f"{line}\n" for line in summary(layers(Cache(root))))


def prune(root: Path, age: float, progress: Progress) -> None:
    """Remove what no image needs and nobody has used for so many seconds. Waits for builds that run."""
    cache = Cache(root)
    with cache.unused(progress.note):
        cache.sweep()
        gone = superfluous(layers(cache), time.time() - age)
        for layer in gone:
            with cache.scratch() as scratch:
                # Out of sight in one step, so that half a layer never passes for one.
                cache.layer(layer.kind, layer.key).rename(scratch / "layer")
                (cache.locks / f"{layer.kind}-{layer.key}").unlink()
    kinds = Counter(layer.kind for layer in gone)
    what = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    progress.note(f"removed {what}; {about(sum(layer.size for layer in gone))} freed")


def summary(found: list[Layer]) -> Iterator[str]:
    """A line for each kind, and one for all."""
    rows = [("kind", "layers", "size", "needed by images", "last used")]
    for kind in sorted({layer.kind for layer in found}):
        rows.append(_row(kind, [layer for layer in found if layer.kind == kind]))
    return columns([*rows, _row("all", found)] if found else [("nothing",)])


def _row(kind: str, found: list[Layer]) -> tuple[str, str, str, str, str]:
    last = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(layer.last_used for layer in found)))
    needed = [layer.size for layer in found if layer.needed]
    size = about(sum(layer.size for layer in found))
    return kind, str(len(found)), size, f"{len(needed)}, {about(sum(needed))}", last


def _notes(cache: Cache) -> Iterator[_Note]:
    return (note for path in (cache.root / _NOTES).glob("*") if (note := _read_note(path)))


def _read_note(path: Path) -> _Note | None:
    try:
        return _Note.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _size(path: Path) -> int:
    return sum(each.lstat().st_blocks for each in (path, *path.rglob("*"))) * _BLOCK
