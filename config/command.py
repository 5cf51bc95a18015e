"""`invoke check-config`: everything that is wrong with a config, and with what is built from it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from config import capacity, secrets
from config.carried import check_files
from config.findings import ConfigError, Finding
from config.loader import load
from config.model import Cluster
from config.sizes import format_size
from config.template_check import check_templates


def check_config(path: Path, *, templates: Path, secrets_directory: Path) -> int:
    """Check a config, the files that it names, the templates and the secrets file if there is one; changes nothing.

    Findings go to stderr, one line each, and their count; where there is no error, a line about the pair goes to
    stdout. Returns the exit code: 0, or 2 with at least one error.
    """
    cluster = None
    try:
        loaded = load(path)
        cluster = loaded.cluster
        findings = [*loaded.warnings, *check_files(loaded), *_check_secrets(cluster, secrets_directory)]
    except ConfigError as e:
        findings = list(e.findings)
    findings += check_templates(templates)
    sys.stderr.writelines(f"{finding}\n" for finding in findings)
    if findings:
        sys.stderr.write(f"{count(findings)}\n")
    if cluster is None or any(finding.severity == "error" for finding in findings):
        return ConfigError.exit_code
    sys.stdout.write(f"{summary(cluster)}\n")
    return 0


def count(findings: Iterable[Finding]) -> str:
    """How many of each: `2 errors, 1 warning`."""
    numbers = Counter(finding.severity for finding in findings)
    return ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in sorted(numbers.items()))


def summary(cluster: Cluster) -> str:
    """The pair in one line: its nodes, how many guests, and the RAM that each node needs of what it has."""
    need = [
        f"{node.name} needs {capacity.about(capacity.memory_need(cluster, node))} of its {format_size(node.memory)}"
        for node in cluster.nodes
    ]
    guests = f"{len(cluster.guests)} guest{'' if len(cluster.guests) == 1 else 's'}"
    return f"{cluster.cluster.name}: {guests}; to hold them all, {', '.join(need)}"


def _check_secrets(cluster: Cluster, directory: Path) -> list[Finding]:
    path = secrets.secrets_file(cluster, directory)
    try:
        if path.exists() or path.is_symlink():
            missing = secrets.missing_passwords(cluster, secrets.load(path))
            return [_missing_password(path, name, node) for name, node in missing.items()]
    except ConfigError as e:
        return list(e.findings)
    except OSError as e:
        return [Finding(str(path), None, "", f"cannot be looked at: {e.strerror}", "make its directory accessible")]
    if any(node.bmc for node in cluster.nodes):
        problem = "does not exist yet, and the passwords of the BMCs belong into it"
        remedy = f"the first build makes it with random passwords; then {secrets.BMC_REMEDY}"
        return [Finding(str(path), None, "", problem, remedy, "warning")]
    return []


def _missing_password(path: Path, name: str, node: str) -> Finding:
    problem = f"does not exist yet, and {node} refers to it"
    remedy = f"the next build makes it, at random; then {secrets.BMC_REMEDY}"
    return Finding(str(path), None, f"bmc.{name}", problem, remedy, "warning")
