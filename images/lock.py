"""The lock: the exact packages of the image, in a file beside the config, for git.

A build with a lock installs these packages, and takes the lock's date for its own: so it gives the same bits later on,
for as long as the mirror has the packages; a snapshot mirror keeps them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from images.archive import Archive, parse_printed
from images.errors import LockError
from images.packages import FIRMWARE
from images.sources import Offer

_UPDATE = "`invoke lock --update` takes what the mirror has now"


class Locked(BaseModel):
    """One package: its version, and the sha256 of its file in hex; none of what is rebuilt here (debian.backports)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.+~:-]+$")]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


class Lock(BaseModel):
    """The whole of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    suite: str
    date: int
    """Of the release that the packages were chosen from, in seconds since the epoch."""
    packages: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")], Locked]

    def to_text(self) -> str:
        """As JSON, with one line for each package."""
        head = {name: json.dumps(value) for name, value in self.model_dump(exclude={"packages"}).items()}
        rows = (f"  {json.dumps(name)}: {locked.model_dump_json()}" for name, locked in sorted(self.packages.items()))
        lines = [*(f" {json.dumps(name)}: {value}," for name, value in head.items()), ' "packages": {']
        return "\n".join(["{", *lines, ",\n".join(rows), " }", "}"]) + "\n"

    def preferences(self, *, others: int) -> str:
        """apt_preferences(5) that choose these versions; others: the priority of every other one, -1 for never."""
        pins = [(name, f"version {locked.version}", 1001) for name, locked in sorted(self.packages.items())]
        pins.append(("*", "release *", others))
        return "\n".join(f"Package: {name}\nPin: {pin}\nPin-Priority: {priority}\n" for name, pin, priority in pins)

    def bound(self, offer: Offer) -> Offer:
        """An offer as this lock has it: the firmware that it names, and its date."""
        firmware = tuple(name for name in sorted(FIRMWARE) if name in self.packages)
        return replace(offer, firmware=firmware, date=self.date)

    def missing(self, available: Mapping[tuple[str, str], set[str]]) -> list[str]:
        """Packages that are not to be had as they are here: `name version`; available: (name, version) -> sha256s."""
        return [
            f"{name} {locked.version}"
            for name, locked in sorted(self.packages.items())
            if not {sum_ for sum_ in available.get((name, locked.version), ()) if locked.sha256 in ("", sum_)}
        ]


def path_of(config: Path) -> Path:
    """Where the lock of a config stands: cluster.yaml has cluster.lock."""
    return config.with_suffix(".lock")


def read(path: Path) -> Lock | None:
    """The lock in that file; None where there is no such file. Raises LockError for one that is damaged."""
    try:
        return Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as e:
        what = e.strerror if isinstance(e, OSError) else _first(e)
        raise LockError(f"{path} is no lock: {what}", hint="take it from git again, or remove it") from e


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, details['loc'])) or 'the file'}: {details['msg']}"


def check_covers(lock: Lock, suite: str, wanted: tuple[str, ...]) -> None:
    """Raise LockError where the config asks for what the lock does not have."""
    if lock.suite != suite:
        raise LockError(f"the lock is of {lock.suite}, and the config says {suite}", hint=_UPDATE)
    if absent := sorted(set(wanted) - lock.packages.keys()):
        raise LockError(
            f"the lock lacks what the config asks for: {', '.join(absent)}",
            hint="`invoke lock` adds them, and leaves the others as they are",
        )


def check_available(lock: Lock, archive: Archive) -> None:
    """Raise LockError that names each locked package which the archive does not have."""
    names = [f"{name}={locked.version}" for name, locked in lock.packages.items()]
    if missing := lock.missing(parse_records(archive.records(names))):
        raise LockError(
            f"the mirror no longer has {len(missing)} of the locked packages: {', '.join(missing)}",
            hint=f"{_UPDATE}; a snapshot mirror (debian.snapshot) may still have them",
        )


def parse_uris(text: str) -> dict[str, Locked]:
    """Packages of `apt-get --print-uris install`; those of a pool of our own (copy:) without a sum."""
    return {
        row.name: Locked(version=row.version, sha256="" if row.uri.startswith("copy:") else row.sha256)
        for row in parse_printed(text)
    }


def parse_records(text: str) -> dict[tuple[str, str], set[str]]:
    """(name, version) -> sha256s, of the records of `apt-cache show`."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|SHA256): (\S+)$", record, flags=re.MULTILINE))
        if len(fields) == 3:
            found.setdefault((fields["Package"], fields["Version"]), set()).add(fields["SHA256"])
    return found


def changes(old: Lock | None, new: Lock) -> list[str]:
    """What is different, one line for each package; nothing where there was no lock before."""
    before = old.packages if old else new.packages
    names = sorted(before.keys() | new.packages.keys())
    rows = ((name, before.get(name), new.packages.get(name)) for name in names)
    return [f"{name}: {_change(one, other)}" for name, one, other in rows if one != other]


def _change(one: Locked | None, other: Locked | None) -> str:
    before, after = one.version if one else "not there", other.version if other else "gone"
    return f"{before} -> {after}" + (", another file" if before == after else "")
