"""The other builders of images.

Each is a directory here: templates (Jinja2, *.j2) and plain files, of which a shell script `cold` makes an image.raw
(or image.tar) with nothing there but the packages on the mirror, and `change` makes it anew after the file motd has
changed; `prepare`, where that needs it, is not measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from bench.load import Run, measured
from config.door import run
from images.namespace import isolated
from images.packages import DPKG_OPTIONS
from images.selection import source_lines
from images.sources import KEYRING, Offer
from images.supply import Supply

PEERS = Path(__file__).parent
DEBIAN_PACKAGES = {
    "mmdebstrap": ("mmdebstrap",),
    "vmdb2": ("vmdb2", "zerofree"),
    "debos": ("debos",),
    "fai": ("fai-server", "fai-setup-storage"),
    "mkosi": ("mkosi",),
}
"""Peer -> what brings it, in the build host's archive."""
_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Site:
    """What the recipes are filled in with."""

    suite: str
    main: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    dpkg: tuple[str, ...] = DPKG_OPTIONS
    keyring: str = KEYRING

    @classmethod
    def of(cls, suite: str, main: str, offer: Offer, packages: Sequence[str]) -> Site:
        """Packages of a suite, of the archive main, which offers that."""
        return cls(suite, main, offer.sources[0].components, tuple(packages), tuple(source_lines(offer, Supply())))


def installed() -> list[str]:
    """The peers that this host has."""
    return [peer for peer, names in DEBIAN_PACKAGES.items() if not _missing(names)]


def install() -> None:
    """Get all of them. Raises CommandError."""
    names = [name for names in DEBIAN_PACKAGES.values() for name in _missing(names)]
    if names:
        argv = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
        run(argv, timeout=_TIMEOUT, env={"DEBIAN_FRONTEND": "noninteractive"})


def _missing(names: Sequence[str]) -> list[str]:
    found = run(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *names], check=False).stdout
    return [name for name in names if f"installed {name}\n" not in found]


class Peer:
    """One of them, with its recipe rendered into a directory."""

    def __init__(self, name: str, site: Site, directory: Path) -> None:
        self.name = name
        self._directory = directory
        shutil.copytree(PEERS / name, directory)
        environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701
        for template in directory.rglob("*.j2"):
            template.with_suffix("").write_text(environment.from_string(template.read_text()).render(asdict(site)))
            template.unlink()

    def measure(self, kind: str, number: int) -> Run | None:
        """One build of this kind; None where the peer has no such."""
        if not (self._directory / kind).is_file():
            return None
        (self._directory / "motd").write_text(f"{kind} {number}\n")
        for old in self._directory.glob("image.*[rt]a[rw]"):
            old.unlink()
        if kind == "change" and (self._directory / "prepare").is_file():
            prepared = measured(self.name, kind, lambda: self._script("prepare"), lambda: self._directory)
            if prepared.failure:
                return prepared
        return measured(self.name, kind, lambda: self._script(kind), self._image)

    def _script(self, kind: str) -> None:
        # A host name of its own: FAI sets it.
        run(isolated(["unshare", "--uts", "sh", "-e", kind]), timeout=_TIMEOUT, cwd=self._directory)

    def _image(self) -> Path:
        (image,) = self._directory.glob("image.*[rt]a[rw]")
        return image
