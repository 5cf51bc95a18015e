"""How long two nodes take from power-on to a formed pair, against the same two nodes that merely boot."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.rows import Row
from config.loader import load
from images.build import build_image
from images.progress import Progress
from lab.console import Stage
from lab.pair import Lab

FORMING_LIMIT = 1.6
"""Times the floor."""


def measure_forming(config: Path, cache: Path, out: Path) -> list[Row]:
    """The floor: both nodes, without a seed medium and so with nothing to do, to their login prompts. Then the pair.

    Raises BuildError, LabError or NotFormedError.
    """
    loaded = load(config)
    build_image(loaded, out, ["qcow2"], cache=cache, progress=Progress())
    image = out / "xenpair.qcow2"
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="bench-"))
    try:
        with Lab.create(scratch / "floor", loaded.cluster, image) as floor:
            booted = _slowest(floor.up(until=Stage.LOGIN))
        with Lab.prepare(scratch / "pair", config, image) as pair:
            formed = _slowest(pair.up())
    finally:
        shutil.rmtree(scratch)
    return [
        Row("two nodes to multi-user (the floor)", booted),
        Row("two nodes to a formed pair", formed, FORMING_LIMIT * booted),
    ]


def _slowest(marks: Mapping[str, Mapping[str, float]]) -> float:
    return max(max(node.values()) for node in marks.values())
