"""Spans of time as they are written on the command line."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str, units: str) -> float | None:
    """Seconds of a span like 90s, 60m, 2h or 30d, in one of these units; None for anything else."""
    match = re.fullmatch(rf"([1-9][0-9]{{0,5}})([{units}])", text)
    return int(match[1]) * _SECONDS[match[2]] if match else None
