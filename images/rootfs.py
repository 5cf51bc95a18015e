"""The first layer: Debian's packages, unpacked and configured, with the initramfs. It knows no cluster and no disk."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from config.door import run, write_file
from config.model import Debian
from images import backport, packages, sources
from images.archive import Archive
from images.cache import Cache, content_key
from images.files import File, code, fingerprints, read_tree, write_tree
from images.jobs import REPOSITORY, RootfsJob, run_inside
from images.lock import Lock, check_available, check_covers
from images.progress import Progress

TEMPLATES = REPOSITORY / "templates"
_LVM_CONF = "etc/lvm/lvm.conf"
_CODE = ("archive.py", "inside.py", "lock.py", "makerootfs.py", "packages.py", "rootfs.py", "sources.py", "tree.py")
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Rootfs:
    """The finished layer: its tar, and what the mirror said while it was made."""

    tar: Path
    kernel: str
    sources: tuple[sources.Source, ...]
    warnings: tuple[str, ...]
    date: int
    """Of the release: what every program of the build takes for now (SOURCE_DATE_EPOCH)."""


def carried_by_initramfs() -> dict[str, File]:
    """Path in the image -> file of ours that has to be there before the initramfs is made."""
    found = {name: file for name, file in read_tree(TEMPLATES / "image").items() if is_early(name)}
    lvm_conf = TEMPLATES / "node" / _LVM_CONF
    return found | ({_LVM_CONF: File.read(lvm_conf)} if lvm_conf.is_file() else {})


def is_early(name: str) -> bool:
    """Whether a file below templates/image belongs to this layer."""
    return name.startswith(("etc/initramfs-tools/", "etc/mdadm/"))


def wanted_packages(debian: Debian) -> tuple[str, ...]:
    """What is installed in any case; firmware comes on top, where the mirror has it."""
    https = ("ca-certificates",) if debian.mirror.startswith("https:") else ()
    return tuple(sorted({*packages.PACKAGES, *debian.packages, *https}))


@dataclass(frozen=True)
class Request:
    """What is asked for, and the content key of all of it.

    What the mirror holds today is no part of the key, and the lock is: without one, a finished layer stays good until
    one of its inputs changes, or the cache is cleared.
    """

    debian: Debian
    mirror: sources.Mirror
    backports: tuple[backport.Request, ...]
    files: Mapping[str, File]
    lock: Lock | None
    key: str

    @classmethod
    def of(cls, debian: Debian, lock: Lock | None = None) -> Request:
        """Raises MirrorError where the build host's apt knows no Debian archive, LockError for the lock of another
        config.
        """
        if lock:
            check_covers(lock, debian.suite, wanted_packages(debian))
        mirror, files = sources.origin(debian), carried_by_initramfs()
        backports = tuple(backport.Request.of(wanted, debian, mirror) for wanted in debian.backports)
        inputs = {
            "suite": debian.suite,
            "mirror": asdict(mirror),
            "packages": wanted_packages(debian),
            "backports": [request.key for request in backports],
            "firmware": packages.FIRMWARE,
            "debconf": packages.DEBCONF,
            "dpkg": packages.DPKG_OPTIONS,
            "files": fingerprints(files),
            "lock": lock.model_dump() if lock else None,
            "code": code(_CODE),
            "mmdebstrap": run(["mmdebstrap", "--version"]).stdout.strip(),
        }
        return cls(debian, mirror, backports, files, lock, content_key(inputs))


def rootfs_layer(request: Request, cache: Cache, progress: Progress) -> Rootfs:
    """The layer from the cache, or newly made. Raises BuildError; a layer in the cache is always whole."""
    layer = cache.layer("rootfs", request.key)
    waiting = "another build is making the same root file system; waiting for it"
    with cache.lock("rootfs", request.key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            pools = [backport.pool(wanted, cache, progress) for wanted in request.backports]
            with cache.scratch() as scratch:
                _make(request, pools, scratch, progress)
                cache.publish(scratch / "layer", "rootfs", request.key)
    return _load(layer)


def _make(request: Request, pools: Sequence[Path], scratch: Path, progress: Progress) -> None:
    with progress.stage("asking the mirror"):
        offer = sources.survey(request.mirror, request.debian.suite, scratch)
        lines = source_lines(offer, pools)
        if request.lock:
            offer = request.lock.bound(offer)
            check_available(request.lock, Archive(request.mirror, request.debian.suite, lines, scratch))
    layer, overlay = scratch / "layer", scratch / "files"
    layer.mkdir()
    write_tree(request.files, overlay)
    job = RootfsJob(
        tree=str(scratch / "tree"),
        tar=str(layer / "rootfs.tar"),
        mmdebstrap=tuple(mmdebstrap_argv(request, offer.firmware, lines, scratch, scratch / "tree")),
        files=str(overlay),
        date=offer.date,
    )
    with progress.stage("installing Debian into the root file system"):
        result = run_inside(job, timeout=_TIMEOUT)
    facts = {
        "kernel": result.kernel,
        "sources": [asdict(source) for source in offer.sources],
        "warnings": offer.warnings,
        "date": offer.date,
    }
    write_file(layer / "layer.json", json.dumps(facts, indent=1))


def source_lines(offer: sources.Offer, pools: Sequence[Path]) -> list[str]:
    """Where apt takes packages from, as sources.list(5) has it.

    pools: our own, which nobody else can write to, and which apt is told to trust.
    """
    lines = [line for source in offer.sources for line in source.one_line()]
    return lines + [f"deb [trusted=yes] copy:{pool} ./" for pool in pools]


def mmdebstrap_argv(
    request: Request, firmware: Sequence[str], lines: Sequence[str], scratch: Path, target: Path
) -> list[str]:
    """mmdebstrap(1) for the packages of the image; its input files are written to scratch."""
    answers, preferences = scratch / "debconf", scratch / "preferences"
    answers.write_text(packages.DEBCONF)
    preferences.write_text(request.lock.preferences(others=-1) if request.lock else "")
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        "--architectures=amd64",
        f"--keyring={sources.KEYRING}",
        f"--include={','.join((*wanted_packages(request.debian), *firmware))}",
        *(f"--aptopt={option}" for option in sources.apt_options(request.mirror)),
        f'--aptopt=Dir::Etc::Preferences "{preferences}";',
        *(f"--dpkgopt={option}" for option in packages.DPKG_OPTIONS),
        f"--essential-hook=upload {shlex.quote(str(answers))} /tmp/debconf",
        '--essential-hook=chroot "$1" debconf-set-selections /tmp/debconf',
        request.debian.suite,
        str(target),
        *lines,
    ]


def _load(layer: Path) -> Rootfs:
    facts = json.loads((layer / "layer.json").read_text())
    offered = tuple(
        sources.Source(source["uri"], tuple(source["suites"]), tuple(source["components"]))
        for source in facts["sources"]
    )
    return Rootfs(layer / "rootfs.tar", facts["kernel"], offered, tuple(facts["warnings"]), facts["date"])
