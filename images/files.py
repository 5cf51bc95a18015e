"""Files of ours that go into an image: read once, so that what is keyed is what is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

EPOCH = 1735689600
"""2025-01-01, in seconds since the epoch: the time of what has none of its own."""


@dataclass(frozen=True)
class File:
    """Content of a file, and whether it is a program."""

    data: bytes
    executable: bool = False

    @classmethod
    def read(cls, path: Path) -> File:
        """The file as it is now."""
        return cls(path.read_bytes(), bool(path.stat().st_mode & 0o100))

    def fingerprint(self) -> str:
        """Differs where content or mode do."""
        return hashlib.sha256(self.data).hexdigest() + ("+x" if self.executable else "")


def read_tree(directory: Path) -> dict[str, File]:
    """Path below directory -> file, sorted; Python's caches are left out. Empty where there is no such directory."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(directory)): File.read(path) for path in paths}


def fingerprints(files: Mapping[str, File]) -> dict[str, str]:
    """Path -> fingerprint: a part of a layer's key."""
    return {name: file.fingerprint() for name, file in files.items()}


def code(names: Iterable[str]) -> dict[str, str]:
    """Fingerprints of modules of this package: the code that makes a layer is a part of the layer's key."""
    return {name: File.read(Path(__file__).with_name(name)).fingerprint() for name in sorted(names)}


def write_tree(files: Mapping[str, File], directory: Path) -> None:
    """Write the files below directory with the modes 0755 and 0644, whatever the umask."""
    for name, file in files.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(0o755 if file.executable else 0o644)
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def render(template: File, values: Mapping[str, object]) -> bytes:
    """A Jinja2 template filled in; a name that values lacks is an error."""
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - config files and scripts, no markup
    )
    return environment.from_string(template.data.decode()).render(values).encode()
