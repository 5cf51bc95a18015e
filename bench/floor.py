"""The floor of a build: the same packages, installed by mmdebstrap the plain way."""

from __future__ import annotations

import shlex
from pathlib import Path

from images import packages, sources
from images.rootfs import Request, wanted_packages
from images.selection import source_lines
from images.supply import Supply


def mmdebstrap_argv(request: Request, offer: sources.Offer, supply: Supply, scratch: Path, target: Path) -> list[str]:
    """mmdebstrap(1) for the packages of an image; its input files are written to scratch."""
    answers = scratch / "debconf"
    answers.write_text(packages.DEBCONF)
    include, _ = supply.divide((*wanted_packages(request.debian), *offer.firmware))
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        "--architectures=amd64",
        f"--keyring={sources.KEYRING}",
        f"--include={','.join(include)}",
        *(f"--aptopt={option}" for option in sources.apt_options(request.mirror)),
        *(f"--dpkgopt={option}" for option in packages.DPKG_OPTIONS),
        f"--essential-hook=upload {shlex.quote(str(answers))} /tmp/debconf",
        '--essential-hook=chroot "$1" debconf-set-selections /tmp/debconf',
        request.debian.suite,
        str(target),
        *source_lines(offer, supply),
    ]
