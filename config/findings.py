"""What is wrong with a file: one finding per fault, each with file, line, YAML path, problem and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from config.errors import XenpairError

Location = tuple[str | int, ...]
"""Where a value stands in a YAML tree: keys, and indices of list items."""

_PLAIN_KEY = re.compile(r"[\w-]+", re.ASCII)


@dataclass(frozen=True)
class Finding:
    """One fault, or one warning, in one file. line counts from 1 and is None where the fault is of the whole file."""

    file: str
    line: int | None
    path: str
    problem: str
    remedy: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [place, "warning" if self.severity == "warning" else "", self.path, self.problem]
        return ": ".join(part for part in parts if part) + (f"; {self.remedy}" if self.remedy else "")


class ConfigError(XenpairError):
    """A file of the administrator's cannot be used as it stands. Carries every finding, warnings included."""

    exit_code: ClassVar[int] = 2

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


def yaml_path(where: Location) -> str:
    """A location as people write it: nodes[1].addresses.cluster; keys that are no plain words are quoted."""
    path = ""
    for step in where:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + (step if _PLAIN_KEY.fullmatch(step) else shown(step))
    return path


def shown(value: str) -> str:
    """A text as it may stand in a message: quoted, on one line, printable anywhere, cut where it gets long."""
    return ascii(value if len(value) <= 60 else value[:57] + "...")
