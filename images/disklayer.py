"""The last layer: from the root file system and our package to the artifacts, in a directory of their own."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from config.door import run
from config.model import Cluster
from config.payload import IMAGE, INDEX
from images import deb, disk, dpkg, grub, installed, manifest, payload, sources
from images.cache import Cache, content_key
from images.deb import Package
from images.errors import BuildError
from images.files import File, code, fingerprints, read_tree, render
from images.installed import Installed
from images.jobs import explaining
from images.lock import Lock
from images.makedisk import Parts, make_disk
from images.manifest import Artifact, Manifest
from images.packages import XEN_VERSION
from images.progress import Progress
from images.rootfs import TEMPLATES, Request, Rootfs, is_early

Format = Literal["qcow2", "raw", "iso", "netboot"]
PRESEED = "preseed"
"""Answers for Debian's own installer, which are no format of our image."""

NAME = "xenpair"
TREE = "netboot"
"""Directory of what an installation over the network needs."""
PAYLOAD = f"{TREE}/image"
LOADERS = "iso"
"""Directory of the boot loaders that the install medium is made with."""
_CODE = (
    *("delta.py", "disk.py", "disklayer.py", "dpkg.py", "files.py", "grub.py"),
    *("makedisk.py", "payload.py", "sbom.py"),
)
_TIMEOUT = 1800.0
_BUILT_HERE = "built with the image"


@dataclass(frozen=True)
class Inputs:
    """What decides about the disk image, and the content key of all of it.

    Only debian and dom0.memory of the config enter the image: the rest reaches a node on the seed medium.
    """

    rootfs: Request
    package: Package
    installed: installed.Request
    files: Mapping[str, File]
    """By their path in the image, which for a template ends in .j2."""
    dom0_memory: int
    upgrades: sources.Mirror
    """What the running node's apt is set to."""
    key: str

    @classmethod
    def of(cls, cluster: Cluster, lock: Lock | None = None) -> Inputs:
        """Raises MirrorError where this host's apt knows no Debian archive, LockError for another config's lock."""
        base, package, upgrades = Request.of(cluster.debian, lock), Package.read(), sources.resolve(cluster.debian)
        files = {name: file for name, file in read_tree(TEMPLATES / "image").items() if not is_early(name)}
        upon = installed.Request.of(base.key, package, (name.removesuffix(".j2") for name in files))
        inputs = {
            "installed": upon.key,
            "files": fingerprints(files),
            "dom0_memory": cluster.dom0.memory,
            "upgrades": asdict(upgrades),
            "code": code(_CODE),
        }
        return cls(base, package, upon, files, cluster.dom0.memory, upgrades, content_key(inputs))


@dataclass(frozen=True)
class Order:
    """One image to be made: of which layers, in which formats."""

    inputs: Inputs
    config_hash: str
    base: Rootfs
    installed: Installed
    deb: Path
    formats: Sequence[Format]
    release: bool
    """Whether to compress hard: for what is published, not for what is tried."""

    @property
    def identity(self) -> disk.Identity:
        """Identifiers of the image."""
        return disk.Identity.of(self.inputs.key)


def parse_formats(text: str) -> tuple[tuple[Format, ...], bool]:
    """Formats of a comma-separated list, each once, and whether PRESEED is among them. Raises BuildError for others."""
    known: tuple[Format, ...] = get_args(Format)
    words = [word.strip() for word in text.split(",")]
    if wrong := sorted(set(words) - {*known, PRESEED}):
        hint = f"choose from {', '.join(known)}, {PRESEED}"
        raise BuildError(f"no image format: {', '.join(map(repr, wrong))}", hint=hint)
    return tuple(format_ for format_ in known if format_ in words), PRESEED in words


def make_artifacts(order: Order, partial: Path, cache: Cache, progress: Progress) -> Manifest:
    """Make every artifact below partial, under its final file name. Raises BuildError."""
    partial.mkdir()
    raw, package = partial / f"{NAME}.raw", partial / order.deb.name
    with cache.scratch() as scratch, ThreadPoolExecutor(1) as beside:
        with progress.stage("writing the disk"):
            described = beside.submit(_write_sbom, order, partial / manifest.SBOM)
            with explaining():
                make_disk(Parts(order.base, order.installed, _rendered(order), order.identity), raw, scratch)
        with progress.stage(f"packing {', '.join(order.formats)} and summing up"):
            artifacts = {manifest.SBOM: described.result(), **_pack(order, raw, partial)}
    shutil.copyfile(order.deb, package)
    artifacts[package.name] = manifest.measure(package)
    return _manifest(order, artifacts)


def _rendered(order: Order) -> dict[str, File]:
    """Our files for the image, templates filled in."""
    values = {
        "root_uuid": order.identity.root,
        "xen": f"/boot/xen-{XEN_VERSION}-amd64.gz",
        "kernel": f"/boot/vmlinuz-{order.base.kernel}",
        "initrd": f"/boot/initrd.img-{order.base.kernel}",
        "xen_options": grub.xen_options(order.inputs.dom0_memory),
        "dom0_options": grub.DOM0_OPTIONS,
        "linux_options": grub.LINUX_OPTIONS,
        "sources": sources.moved(order.base.sources, order.inputs.upgrades),
    }
    return {
        name.removesuffix(".j2"): File(render(file, values), file.executable) if name.endswith(".j2") else file
        for name, file in order.inputs.files.items()
    }


def _pack(order: Order, raw: Path, partial: Path) -> dict[str, Artifact]:
    """Measure each format, the raw file while others are made of it; a raw image that nobody asked for goes."""
    formats, artifacts = order.formats, dict[str, Artifact]()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(manifest.measure, raw, cancelled=stop.is_set) if "raw" in formats else None
        try:
            if "qcow2" in formats:
                qcow2 = partial / f"{NAME}.qcow2"
                run(disk.qcow2_argv(raw, qcow2, compress=order.release), timeout=_TIMEOUT)
                artifacts[qcow2.name] = manifest.measure(qcow2)
            if {"iso", "netboot"} & set(formats):
                artifacts |= _pack_payload(order, raw, partial)
            if measured is not None:
                artifacts[raw.name] = measured.result()
        except BaseException:
            stop.set()
            raise
    if "raw" not in formats:
        raw.unlink()
    return artifacts


def _pack_payload(order: Order, raw: Path, partial: Path) -> dict[str, Artifact]:
    directory = partial / PAYLOAD
    directory.mkdir(parents=True)
    level = payload.RELEASE_LEVEL if order.release else payload.LEVEL
    key, root_uuid = order.inputs.key, order.identity.root
    payload.pack(raw, directory, key=key, root_uuid=root_uuid, root_start=disk.ROOT.start, level=level)
    return {f"{PAYLOAD}/{name}": manifest.measure(directory / name) for name in (INDEX, IMAGE)}


def _write_sbom(order: Order, target: Path) -> Artifact:
    """Of the packages of the first layer, and ours."""
    from images import sbom  # noqa: PLC0415 - takes a moment, and an image that stands already needs none of it

    ours = run(["dpkg-deb", "--field", order.deb]).stdout
    text = sbom.document(
        dpkg.installed(f"{order.base.status}\n\nStatus: install ok installed\n{ours}"),
        suite=order.inputs.rootfs.debian.suite,
        key=order.inputs.key,
        version=order.inputs.package.version,
        date=order.base.date,
        sha256={**order.base.sha256, deb.NAME: manifest.measure(order.deb).sha256},
    )
    target.write_text(text)
    return manifest.measure(target)


def _manifest(order: Order, artifacts: dict[str, Artifact]) -> Manifest:
    return Manifest(
        suite=order.inputs.rootfs.debian.suite,
        key=order.inputs.key,
        release=order.release,
        config_hash=order.config_hash,
        root_uuid=order.identity.root,
        kernel=order.base.kernel,
        warnings=order.base.warnings,
        sources=tuple(line for source in order.base.sources for line in source.one_line()),
        artifacts=artifacts,
        packages=order.installed.packages,
        origins={**order.base.origins, deb.NAME: _BUILT_HERE},
        modules=dict(order.base.modules),
    )
