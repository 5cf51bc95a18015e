"""The first layer: Debian's packages, unpacked and configured, with the initramfs. It knows no cluster and no disk."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from config.door import run, write_file
from config.model import Debian
from images import backport, debs, origins, packages, sources
from images.archive import Archive
from images.cache import Cache, content_key
from images.files import File, code, fingerprints, read_tree, write_tree
from images.jobs import REPOSITORY, RootfsJob, run_inside
from images.lock import Lock, check_available, check_covers
from images.progress import Progress
from images.supply import DKMS, Supply, supplied

TEMPLATES = REPOSITORY / "templates"
_LVM_CONF = "etc/lvm/lvm.conf"
_DKMS_SCRIPT = TEMPLATES / "build" / "dkms"
_CODE = (
    *("archive.py", "inside.py", "lock.py", "makerootfs.py", "origins.py", "packages.py", "rootfs.py", "sources.py"),
    *("supply.py", "tree.py"),
)
_TIMEOUT = 3600.0
_POLICY, _MODULES = "policy", "modules"
"""Files that hooks write: `apt-cache policy` of what is installed; `NAME/VERSION PACKAGE VERSION` of each module."""
_WITH_APT = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"'
_ASK_POLICY = """apt-cache policy $(dpkg-query --admindir="$1/var/lib/dpkg" --show --showformat='${Package} ')"""


@dataclass(frozen=True)
class Rootfs:
    """The finished layer: its tar, and what the mirror said while it was made."""

    tar: Path
    kernel: str
    sources: tuple[sources.Source, ...]
    warnings: tuple[str, ...]
    date: int
    """Of the release: what every program of the build takes for now (SOURCE_DATE_EPOCH)."""
    origins: Mapping[str, str]
    """Package -> where its version came from."""
    modules: Mapping[str, str]
    """NAME/VERSION of a kernel module that DKMS built -> where its source came from."""


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
    addresses = (debian.mirror, *(wanted.uri for wanted in debian.debs.repositories))
    https = ("ca-certificates",) if any(address.startswith("https:") for address in addresses) else ()
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
    debs: debs.Request
    files: Mapping[str, File]
    lock: Lock | None
    key: str

    @classmethod
    def of(cls, debian: Debian, lock: Lock | None = None) -> Request:
        """Raises MirrorError where the build host's apt knows no Debian archive, LockError for the lock of another
        config, and what debs.Request.of does. Paths in debian are absolute (config.debian_files).
        """
        if lock:
            check_covers(lock, debian.suite, wanted_packages(debian))
        wanted_debs = debs.Request.of(debian.debs)
        mirror, files = sources.origin(debian), {**carried_by_initramfs(), **wanted_debs.key_files()}
        backports = tuple(backport.Request.of(wanted, debian, mirror) for wanted in debian.backports)
        inputs = {
            "suite": debian.suite,
            "mirror": asdict(mirror),
            "packages": wanted_packages(debian),
            "backports": [request.key for request in backports],
            "debs": [wanted_debs.key, _DKMS_SCRIPT.read_text()],
            "firmware": packages.FIRMWARE,
            "debconf": packages.DEBCONF,
            "dpkg": packages.DPKG_OPTIONS,
            "files": fingerprints(files),
            "lock": lock.model_dump() if lock else None,
            "code": code(_CODE),
            "mmdebstrap": run(["mmdebstrap", "--version"]).stdout.strip(),
        }
        return cls(debian, mirror, backports, wanted_debs, files, lock, content_key(inputs))


def rootfs_layer(request: Request, cache: Cache, progress: Progress) -> Rootfs:
    """The layer from the cache, or newly made. Raises BuildError; a layer in the cache is always whole."""
    layer = cache.layer("rootfs", request.key)
    waiting = "another build is making the same root file system; waiting for it"
    with cache.lock("rootfs", request.key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            with cache.scratch() as scratch:
                _make(request, scratch, cache, progress)
                cache.publish(scratch / "layer", "rootfs", request.key)
    return _load(layer)


def _make(request: Request, scratch: Path, cache: Cache, progress: Progress) -> None:
    supply = supplied(request.debs, request.backports, scratch, cache, progress)
    with progress.stage("asking the mirror"):
        offer = sources.survey(request.mirror, request.debian.suite, scratch)
        if request.lock:
            offer = request.lock.bound(offer)
            lines = source_lines(offer, supply)
            check_available(request.lock, Archive(request.mirror, request.debian.suite, lines, scratch))
    layer, overlay = scratch / "layer", scratch / "files"
    layer.mkdir()
    write_tree(request.files, overlay)
    job = RootfsJob(
        tree=str(scratch / "tree"),
        tar=str(layer / "rootfs.tar"),
        mmdebstrap=tuple(mmdebstrap_argv(request, offer, supply, scratch, scratch / "tree")),
        files=str(overlay),
        date=offer.date,
    )
    with progress.stage("installing Debian into the root file system"):
        result = run_inside(job, timeout=_TIMEOUT)
    modules = _modules(scratch)
    installed = {**{package: version for _, package, version in modules}, **result.packages}
    told = origins.origins((scratch / _POLICY).read_text(), installed, request.debian.debs.repositories, supply.pools)
    facts = {
        "kernel": result.kernel,
        "sources": [asdict(source) for source in (*offer.sources, *request.debs.kept())],
        "warnings": [*offer.warnings, *origins.unused(supply.pools, result.packages)],
        "date": offer.date,
        "origins": {name: origin for name, origin in told.items() if name in result.packages},
        "modules": {module: f"{package} {version}, {told[package]}" for module, package, version in modules},
    }
    write_file(layer / "layer.json", json.dumps(facts, indent=1))


def _modules(scratch: Path) -> list[list[str]]:
    report = scratch / _MODULES
    return [line.split() for line in report.read_text().splitlines()] if report.is_file() else []


def source_lines(offer: sources.Offer, supply: Supply) -> list[str]:
    """Where apt takes packages from, as sources.list(5) has it."""
    return [*(line for source in offer.sources for line in source.one_line()), *supply.lines]


def mmdebstrap_argv(request: Request, offer: sources.Offer, supply: Supply, scratch: Path, target: Path) -> list[str]:
    """mmdebstrap(1) for the packages of the image; its input files, and what it tells of them, are in scratch."""
    answers, preferences = scratch / "debconf", scratch / "preferences"
    answers.write_text(packages.DEBCONF)
    preferences.write_text(request.lock.preferences(others=-1) if request.lock else "")
    include, modules = supply.divide((*wanted_packages(request.debian), *offer.firmware))
    reports, keep = [scratch / _MODULES, scratch / _POLICY], DKMS in request.debian.packages
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=apt",
        "--architectures=amd64",
        f"--keyring={sources.KEYRING}",
        f"--include={','.join(include)}",
        *(f"--aptopt={option}" for option in sources.apt_options(request.mirror)),
        f'--aptopt=Dir::Etc::Preferences "{preferences}";',
        *(f"--dpkgopt={option}" for option in packages.DPKG_OPTIONS),
        f"--essential-hook=upload {shlex.quote(str(answers))} /tmp/debconf",
        '--essential-hook=chroot "$1" debconf-set-selections /tmp/debconf',
        f"--customize-hook={_WITH_APT} {_ASK_POLICY} >{shlex.quote(str(scratch / _POLICY))}",
        *([_dkms_hook(modules, reports, keep=keep)] if modules else []),
        request.debian.suite,
        str(target),
        *source_lines(offer, supply),
    ]


def _dkms_hook(modules: Sequence[str], reports: Sequence[Path], *, keep: bool) -> str:
    words = shlex.join([*map(str, reports), "yes" if keep else "no", *modules])
    return f'--customize-hook={_WITH_APT} sh {shlex.quote(str(_DKMS_SCRIPT))} "$1" {words} >&2'


def _load(layer: Path) -> Rootfs:
    facts = json.loads((layer / "layer.json").read_text())
    offered = tuple(
        sources.Source(source["uri"], tuple(source["suites"]), tuple(source["components"]), source["signed_by"])
        for source in facts["sources"]
    )
    return Rootfs(
        tar=layer / "rootfs.tar",
        kernel=facts["kernel"],
        sources=offered,
        warnings=tuple(facts["warnings"]),
        date=facts["date"],
        origins=facts["origins"],
        modules=facts["modules"],
    )
