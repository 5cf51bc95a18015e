"""`invoke inspect` and `invoke diff`."""

from __future__ import annotations

import sys
from pathlib import Path

from images.cache import Cache
from images.inspection import difference, report, show
from images.inspection.disk import opened


def inspect(image: Path, *, cache: Path, json: bool) -> None:
    """Print what is in an image. Raises InspectError for a file that is none."""
    with opened(image, Cache(cache)) as disk:
        found = report.inspect(image, disk)
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in show.lines(found))


def diff(old: Path, new: Path, *, cache: Path, json: bool) -> int:
    """Print what differs between two images. Returns the exit code of diff(1): 0 or, where anything does, 1.

    Raises InspectError, whose exit code is 2.
    """
    with opened(old, Cache(cache)) as before, opened(new, Cache(cache)) as after:
        found = difference.compare(before, after)
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in show.difference(found))
    return 1 if found else 0
