"""Sizes as people write them: 4G, 512M. K, M, G and T are powers of 1024."""

from __future__ import annotations

import re

from config.findings import shown

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([1-9][0-9]{0,11})([KMGT])")


def parse_size(value: object) -> int:
    """Bytes of a size like 4G, 512M (K, M, G, T: powers of 1024). Raises ValueError for anything else."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        text = shown(str(value))
        raise ValueError(f"{text} is not a size; write a whole number and a unit of K, M, G or T, like 4G or 512M")
    return int(match[1]) * _UNITS[match[2]]


def format_size(size: int) -> str:
    """The shortest exact way to write a number of bytes: 4G, 1536M."""
    for unit, factor in reversed(_UNITS.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size / _UNITS['K']:g}K"
