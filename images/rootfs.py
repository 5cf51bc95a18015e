"""The first layer: Debian's packages, unpacked and configured, with the initramfs. It knows no cluster and no disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from config.door import write_file
from config.model import Debian
from images import backport, debs, packages, sources
from images.cache import Cache, content_key
from images.files import File, code, fingerprints, read_tree, write_tree
from images.jobs import RAW, REPOSITORY, STATUS, TAR, TOOLS, RootfsJob, run_inside
from images.lock import Lock, check_covers
from images.modules import SCRIPT, Modules
from images.progress import Progress
from images.selection import Question, select
from images.supply import DKMS, supplied
from images.tools import Tools

TEMPLATES = REPOSITORY / "templates"
_FACTS = "layer.json"
_LVM_CONF = "etc/lvm/lvm.conf"
_CHOICE = ("archive.py", "lock.py", "origins.py", "selection.py", "sources.py", "supply.py")
_CODE = (
    *("debfile.py", "dependencies.py", "disk.py", "inside.py", "makerootfs.py", "modules.py", "packages.py"),
    *("rootfs.py", "tools.py", "tree.py", "unpack.py"),
)
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Rootfs:
    """The finished layer: its tar, dpkg's record of it, and what the mirror said while it was made."""

    tar: Path
    raw: Path
    """A disk whose root file system holds the same; the rest of it is empty."""
    tools: Tools
    status: str
    kernel: str
    boot: frozenset[str]
    """The files below /boot."""
    sources: tuple[sources.Source, ...]
    warnings: tuple[str, ...]
    date: int
    """Of the release: what every program of the build takes for now (SOURCE_DATE_EPOCH)."""
    origins: Mapping[str, str]
    """Package -> where its version came from."""
    modules: Mapping[str, str]
    """NAME/VERSION of a kernel module that DKMS built -> where its source came from."""
    sha256: Mapping[str, str]
    """Package -> sha256 (hex) of its .deb."""


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
    one of its inputs changes, or the cache is cleared. The packages that a config adds are installed upon the layer
    that every image has (base), unless kernel modules are built of them.
    """

    debian: Debian
    mirror: sources.Mirror
    backports: tuple[backport.Request, ...]
    debs: debs.Request
    files: Mapping[str, File]
    lock: Lock | None
    base: Request | None
    packages_key: str
    """Of the selection of packages."""
    key: str

    @classmethod
    def of(cls, debian: Debian, lock: Lock | None = None) -> Request:
        """Raises MirrorError where the build host's apt knows no Debian archive, LockError for the lock of another
        config, and what debs.Request.of does. Paths in debian are absolute (config.debian_files).
        """
        if lock:
            check_covers(lock, debian.suite, wanted_packages(debian))
        if debian.packages and not any(name.endswith(DKMS) for name in debian.packages):
            base = cls.of(debian.model_copy(update={"packages": ()}), lock)
            key = content_key({"base": base.key, "packages": sorted(debian.packages)})
            return replace(base, debian=debian, base=base, packages_key=key, key=key)
        wanted_debs = debs.Request.of(debian.debs)
        mirror, files = sources.origin(debian), {**carried_by_initramfs(), **wanted_debs.key_files()}
        backports = tuple(backport.Request.of(wanted, debian, mirror) for wanted in debian.backports)
        chosen = {
            "suite": debian.suite,
            "mirror": asdict(mirror),
            "packages": wanted_packages(debian),
            "backports": [request.key for request in backports],
            "debs": wanted_debs.key,
            "firmware": packages.FIRMWARE,
            "lock": lock.model_dump() if lock else None,
            "code": code(_CHOICE),
        }
        packages_key = content_key(chosen)
        made = {
            "chosen": packages_key,
            "debconf": packages.DEBCONF,
            "dpkg": packages.DPKG_OPTIONS,
            "dkms": SCRIPT.read_text(),
            "files": fingerprints(files),
            "code": code(_CODE),
        }
        return cls(debian, mirror, backports, wanted_debs, files, lock, None, packages_key, content_key(made))


def rootfs_layer(request: Request, cache: Cache, progress: Progress) -> Rootfs:
    """The layer from the cache, or newly made. Raises BuildError; a layer in the cache is always whole."""
    layer = cache.layer("rootfs", request.key)
    waiting = "another build is making the same root file system; waiting for it"
    with cache.lock("rootfs", request.key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            base = rootfs_layer(request.base, cache, progress) if request.base else None
            with cache.scratch() as scratch:
                _make(request, base, scratch, cache, progress)
                cache.publish(scratch / "layer", "rootfs", request.key)
    cache.used.update(_made_of(layer))
    return _load(layer)


def question(request: Request, base: Rootfs | None, cache: Cache, progress: Progress) -> Question:
    """Which packages the layer is made of, or which it adds to its base."""
    debian = request.debian
    return Question(
        key=request.packages_key,
        suite=debian.suite,
        mirror=request.mirror,
        names=sorted(debian.packages) if base else wanted_packages(debian),
        lock=request.lock,
        repositories=debian.debs.repositories,
        supply=lambda scratch: supplied(request.debs, request.backports, scratch, cache, progress),
        status=base.status if base else "",
    )


def _make(request: Request, base: Rootfs | None, scratch: Path, cache: Cache, progress: Progress) -> None:
    asked = question(request, base, cache, progress)
    chosen = select(asked, cache, progress)
    layer, overlay = scratch / "layer", scratch / "files"
    layer.mkdir()
    write_tree(request.files, overlay)
    job = RootfsJob(
        tree=str(scratch / "tree"),
        base=str(base.tar) if base else "",
        layer=str(layer),
        room=str(scratch / "debs"),
        debs=tuple(map(str, chosen.paths(cache))),
        wanted=chosen.wanted,
        files=str(overlay),
        date=chosen.offer.date,
        key=request.key,
        modules=(),
        apt_conf="",
    )
    modules = Modules.of(asked, chosen, scratch) if chosen.modules else None
    if modules:
        keep = DKMS in request.debian.packages
        job = replace(job, modules=modules.argv(scratch / "tree", keep=keep), apt_conf=str(modules.archive.conf))
    with progress.stage("adding packages" if base else "installing Debian into the root file system"):
        result = run_inside(job, timeout=_TIMEOUT)
    told = {**(base.origins if base else {}), **chosen.origins, **(modules.origins(result.packages) if modules else {})}
    facts = {
        "kernel": result.kernel,
        "boot": result.boot,
        "sources": [asdict(source) for source in (*chosen.offer.sources, *request.debs.kept())],
        "warnings": [*chosen.offer.warnings, *chosen.warnings],
        "date": chosen.offer.date,
        "origins": {name: origin for name, origin in told.items() if name in result.packages},
        "modules": modules.built() if modules else dict(base.modules) if base else {},
        "sha256": {**(base.sha256 if base else {}), **chosen.debs},
        "made_of": sorted(cache.used),
    }
    write_file(layer / _FACTS, json.dumps(facts, indent=1))


def _made_of(layer: Path) -> set[tuple[str, str]]:
    """The layers below it: with them, a package more is all that is fetched."""
    return {(kind, key) for kind, key in json.loads((layer / _FACTS).read_text())["made_of"]}


def _load(layer: Path) -> Rootfs:
    facts = json.loads((layer / _FACTS).read_text())
    offered = tuple(
        sources.Source(source["uri"], tuple(source["suites"]), tuple(source["components"]), source["signed_by"])
        for source in facts["sources"]
    )
    return Rootfs(
        tar=layer / TAR,
        raw=layer / RAW,
        tools=Tools(layer / TOOLS),
        status=(layer / STATUS).read_text(),
        kernel=facts["kernel"],
        boot=frozenset(facts["boot"]),
        sources=offered,
        warnings=tuple(facts["warnings"]),
        date=facts["date"],
        origins=facts["origins"],
        modules=facts["modules"],
        sha256=facts["sha256"],
    )
