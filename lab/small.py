"""A smaller copy of a config: backing disks that a full resync or a comparison gets through in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from config.door import write_file

SIZE = "256M"
"""Room for a few small logical volumes; an emulated node resyncs some 5 MB a second."""


def write_small_config(config_file: Path, target: Path) -> Path:
    """Write a copy of a valid config in which every backing disk has SIZE; returns target."""
    document: dict[str, Any] = yaml.safe_load(config_file.read_text())
    rules = [document["storage"]["backing"]]
    rules += [node["disks"]["backing"] for node in document["nodes"] if "backing" in (node.get("disks") or {})]
    for rule in rules:
        rule.update(min_size=SIZE, max_size=SIZE)
    document["guests"] = []
    write_file(target, yaml.safe_dump(document, sort_keys=False))
    return target
