"""What there is beside Debian's archive when the packages of an image are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images import backport, debs
from images.cache import Cache
from images.debs import Deb
from images.pool import Pool
from images.progress import Progress

DKMS = "dkms"
"""The package. Where debian.packages has it, it stays on the node, with the kernel's headers and a compiler."""
FOR_MODULES = (DKMS, "linux-headers-amd64")
"""What builds kernel modules, beside their own packages: all that templates/build/dkms may install."""


@dataclass(frozen=True)
class Supply:
    """What there is beside Debian's archive: lines of a sources.list(5), pools among them, and the ready files."""

    lines: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()
    files: tuple[Deb, ...] = ()

    def divide(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """What apt is asked for: the packages, and apart from them those that bring the source of a kernel module.

        By Debian's custom the latter are called NAME-dkms (dh_dkms(1)).
        """
        exact = {deb.name: deb.exactly for deb in self.files}
        modules = {deb.name for deb in self.files if deb.dkms} | {name for name in names if name.endswith(f"-{DKMS}")}
        wanted = sorted({*names, *exact})
        return (
            [exact.get(name, name) for name in wanted if name not in modules],
            [exact.get(name, name) for name in wanted if name in modules],
        )


def supplied(
    wanted: debs.Request,
    backports: Sequence[backport.Request],
    scratch: Path,
    cache: Cache,
    progress: Progress,
) -> Supply:
    """The packages that are not Debian's, made or fetched where need be, and checked. Raises BuildError."""
    # What is quickly found to be of no use comes first.
    files = debs.file_pool(wanted, cache, progress) if wanted.sums else None
    if wanted.debs.repositories:
        with progress.stage("asking other repositories"):
            wanted.verify(scratch)
    pools = [files[0]] if files else []
    pools += [backport.backport_pool(request, cache, progress) for request in backports]
    for pool in pools:
        pool.verify()
    lines = [*(pool.one_line for pool in pools), *wanted.lines(scratch)]
    return Supply(tuple(lines), tuple(pools), files[1] if files else ())
