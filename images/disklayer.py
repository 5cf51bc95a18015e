"""The second layer: from the root file system and our package to the artifacts, in a directory of their own."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config.door import run
from config.model import Cluster
from images import deb, disk, grub, manifest, rootfs, sources
from images.cache import Cache, content_key, contents
from images.jobs import DiskJob, Result, run_inside
from images.manifest import Artifact, Manifest
from images.packages import XEN_VERSION
from images.progress import Progress
from images.rootfs import Rootfs

Format = Literal["qcow2", "raw"]

NAME = "xenpair"
_CODE = ("disk.py", "disklayer.py", "grub.py", "inside.py", "jobs.py")
_TIMEOUT = 1800.0
_IMAGE_TEMPLATES = rootfs.TEMPLATES / "image"


@dataclass(frozen=True)
class Inputs:
    """What decides about the disk image, and the content key of all of it."""

    mirror: sources.Mirror
    key: str

    @classmethod
    def of(cls, cluster: Cluster) -> Inputs:
        """Only debian and dom0.memory of the config enter the image: the rest reaches a node on the seed medium."""
        mirror = sources.resolve(cluster.debian)
        key = content_key(
            {
                "rootfs": rootfs.key(cluster.debian, mirror),
                "deb": deb.version(),
                "dom0_memory": cluster.dom0.memory,
                "templates": contents(_own_files().values(), _IMAGE_TEMPLATES),
                "code": contents((Path(__file__).parent / name for name in _CODE), Path(__file__).parent),
            }
        )
        return cls(mirror, key)


def _own_files() -> dict[str, Path]:
    """Files below templates/image that the first layer does not have yet."""
    early = set(rootfs.files().values())
    files = {path for path in _IMAGE_TEMPLATES.rglob("*") if path.is_file()} - early
    return {str(path.relative_to(_IMAGE_TEMPLATES)): path for path in sorted(files)}


@dataclass(frozen=True)
class Order:
    """One image to be made, of what, in which formats."""

    cluster: Cluster
    inputs: Inputs
    base: Rootfs
    package: Path
    formats: Sequence[Format]

    @property
    def identity(self) -> disk.Identity:
        """Identifiers of the image."""
        return disk.Identity.of(self.inputs.key)


def make_artifacts(order: Order, partial: Path, cache: Cache, progress: Progress) -> Manifest:
    """Make every artifact below partial, under its final file name. Raises BuildError."""
    partial.mkdir()
    raw, package = partial / f"{NAME}.raw", partial / order.package.name
    with cache.scratch() as scratch, progress.stage("writing the disk"):
        _render_files(order, scratch / "files")
        result = run_inside(_job(order, scratch, raw), timeout=_TIMEOUT)
    with progress.stage(f"packing {', '.join(order.formats)} and summing up"):
        artifacts = _pack(raw, order.formats, partial)
    shutil.copyfile(order.package, package)
    artifacts[package.name] = manifest.measure(package)
    return _manifest(order, result, artifacts)


def _job(order: Order, scratch: Path, raw: Path) -> DiskJob:
    return DiskJob(
        tree=str(scratch / "tree"),
        tar=str(order.base.tar),
        deb=str(order.package),
        files=str(scratch / "files"),
        raw=str(raw.absolute()),
        key=order.inputs.key,
    )


def _render_files(order: Order, directory: Path) -> None:
    """Our files for the image below directory, templates filled in."""
    values = {
        "root_uuid": order.identity.root,
        "xen": f"/boot/xen-{XEN_VERSION}-amd64.gz",
        "kernel": f"/boot/vmlinuz-{order.base.kernel}",
        "initrd": f"/boot/initrd.img-{order.base.kernel}",
        "xen_options": grub.xen_options(order.cluster.dom0.memory),
        "dom0_options": grub.DOM0_OPTIONS,
        "linux_options": grub.LINUX_OPTIONS,
        "sources": order.base.sources,
        "keyring": sources.KEYRING,
    }
    rootfs.stage_files(_own_files(), directory)
    environment = Environment(
        loader=FileSystemLoader(_IMAGE_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - config files, no markup
    )
    for name in _own_files():
        if name.endswith(".j2"):
            (directory / name).rename(rendered := directory / name.removesuffix(".j2"))
            rendered.write_text(environment.get_template(name).render(values))


def _pack(raw: Path, formats: Sequence[Format], partial: Path) -> dict[str, Artifact]:
    """Measure each format, the raw file while qemu-img reads it; a raw image that nobody asked for goes."""
    artifacts: dict[str, Artifact] = {}
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(manifest.measure, raw, cancelled=stop.is_set) if "raw" in formats else None
        try:
            if "qcow2" in formats:
                qcow2 = partial / f"{NAME}.qcow2"
                run(disk.qcow2_argv(raw, qcow2), timeout=_TIMEOUT)
                artifacts[qcow2.name] = manifest.measure(qcow2)
            if measured is not None:
                artifacts[raw.name] = measured.result()
        except BaseException:
            stop.set()
            raise
    if "raw" not in formats:
        raw.unlink()
    return artifacts


def _manifest(order: Order, result: Result, artifacts: dict[str, Artifact]) -> Manifest:
    return Manifest(
        suite=order.cluster.debian.suite,
        key=order.inputs.key,
        config_hash=order.cluster.config_hash(),
        root_uuid=order.identity.root,
        kernel=result.kernel,
        warnings=order.base.warnings,
        sources=tuple(line for source in order.base.sources for line in source.one_line()),
        artifacts=artifacts,
        packages=result.packages,
    )
