"""Checks of what the dom0 is made of: one key against another."""

from __future__ import annotations

from collections.abc import Iterator

from config.findings import Location
from config.model import Cluster
from config.problems import Check, Problem, repeated


def named_once(cluster: Cluster) -> Iterator[Problem]:
    """A package is brought from one place, and a file is installed once."""
    backports, files = cluster.debian.backports, cluster.debian.debs.files
    where: Location = ("debian", "backports")
    yield from repeated([((*where, i, "package"), wanted.package) for i, wanted in enumerate(backports)], "package")
    where = ("debian", "debs", "files")
    yield from repeated([((*where, i, "path"), file.path) for i, file in enumerate(files)], "file")


def own_sources(cluster: Cluster) -> Iterator[Problem]:
    """A source of one's own comes from no suite, and can only be built."""
    for i, wanted in enumerate(cluster.debian.backports):
        if wanted.source is None:
            continue
        where: Location = ("debian", "backports", i)
        if not wanted.rebuild:
            yield Problem((*where, "rebuild"), "a source cannot be taken as it is", "leave rebuild out, or source")
        if "suite" in wanted.model_fields_set:
            problem = f"{wanted.package} is built from {wanted.source}, not from a suite"
            yield Problem((*where, "suite"), problem, "leave suite out, or source")


CHECKS: tuple[Check, ...] = (named_once, own_sources)
