"""From the file to a checked Cluster, or to the list of everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from config import checks
from config.document import Document, parse, read
from config.findings import ConfigError, Finding
from config.model import Cluster
from config.problems import Check
from config.shape import salvage


@dataclass(frozen=True)
class Loaded:
    """A config that may be used: the cluster, what is worth a second thought, and the file it came from."""

    cluster: Cluster
    warnings: tuple[Finding, ...]
    source: Path


def load(path: Path, *, overlooking: Collection[Check] = ()) -> Loaded:
    """Read, validate and check one cluster.yaml. overlooking: checks that are not made.

    Raises ConfigError with all errors at once (and the warnings). Where a value does not validate, the checks that
    do not need it are still made.
    """
    document = parse(read(path), str(path))
    findings = list(document.duplicates)
    cluster = None
    try:
        cluster = Cluster.model_validate(document.value)
    except ValidationError as e:
        from config.phrases import explain  # noqa: PLC0415 -- a node that boots has a valid config and no need of it

        findings += explain(e, document, Cluster)
    findings += _cross_checks(document, cluster, overlooking)
    findings.sort(key=lambda finding: finding.line or 0)
    if cluster is None or any(finding.severity == "error" for finding in findings):
        raise ConfigError(findings)
    return Loaded(cluster, tuple(findings), path)


def _cross_checks(document: Document, cluster: Cluster | None, overlooking: Collection[Check]) -> list[Finding]:
    complete = cluster is not None
    problems = checks.run(cluster or salvage(Cluster, document.value), complete=complete, overlooking=overlooking)
    return [
        replace(document.finding(problem.where, problem.problem, problem.remedy), severity=problem.severity)
        for problem in problems
    ]
