"""Kernel modules that are built of their sources (DKMS), in the tree that they are for, by templates/build/dkms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images import origins
from images.archive import Archive
from images.jobs import REPOSITORY
from images.selection import Question, Selection
from images.supply import Supply

SCRIPT = REPOSITORY / "templates" / "build" / "dkms"


@dataclass(frozen=True)
class Modules:
    """The packages that bring sources of modules, and where all that is needed to build those comes from."""

    asked: Question
    names: tuple[str, ...]
    archive: Archive
    supply: Supply
    scratch: Path

    @classmethod
    def of(cls, asked: Question, chosen: Selection, scratch: Path) -> Modules:
        """Of a selection; scratch: a directory for apt, and for what the script tells. Raises MirrorError."""
        archive, _, supply = asked.archive(scratch)
        archive.prepare(asked.preferences)
        return cls(asked, chosen.modules, archive, supply, scratch)

    def argv(self, tree: Path, *, keep: bool) -> tuple[str, ...]:
        """Builds them; keep: what it took for that stays in the tree."""
        return ("sh", str(SCRIPT), str(tree), str(self._built), str(self._policy), "yes" if keep else "no", *self.names)

    def built(self) -> dict[str, str]:
        """NAME/VERSION of each module that was built -> where its source came from."""
        rows = [line.split() for line in self._built.read_text().splitlines()]
        told = self.origins({package: version for _, package, version in rows})
        return {module: f"{package} {version}, {told[package]}" for module, package, version in rows}

    def origins(self, versions: Mapping[str, str]) -> dict[str, str]:
        """Package -> where that version came from, of those that came for the modules."""
        return origins.origins(self._policy.read_text(), versions, self.asked.repositories, self.supply.pools)

    @property
    def _built(self) -> Path:
        return self.scratch / "modules"

    @property
    def _policy(self) -> Path:
        return self.scratch / "policy"
