"""Guests that should run on this node and have to wait for room: noted by the supervisor, shown by everybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping

from config.door import write_file
from firstboot.errors import ProbeError
from firstboot.places import Places


def write(places: Places, reasons: Mapping[str, str]) -> None:
    """All that wait now, by name, and why."""
    write_file(places.held, json.dumps(dict(reasons), indent=1, sort_keys=True) + "\n")


def read(places: Places) -> dict[str, str]:
    """What was last written; nothing before that. Raises ProbeError."""
    try:
        found = json.loads(places.held.read_text())
        return {str(name): str(why) for name, why in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as e:
        raise ProbeError(f"{places.held} is not what the supervisor has written: {e}") from e
