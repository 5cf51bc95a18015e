"""The first layer: Debian's packages, unpacked and configured, with the initramfs. It knows no cluster and no disk."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from config.door import run, write_file
from config.model import Debian
from images import packages, sources
from images.cache import Cache, content_key, contents
from images.jobs import REPOSITORY, RootfsJob, run_inside
from images.progress import Progress

TEMPLATES = REPOSITORY / "templates"
_CARRIED_BY_INITRAMFS = "etc/initramfs-tools"
_LVM_CONF = "etc/lvm/lvm.conf"
_CODE = ("grub.py", "inside.py", "jobs.py", "packages.py", "rootfs.py", "sources.py")
_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Rootfs:
    """The finished layer: its tar, and what the mirror said while it was made."""

    key: str
    tar: Path
    kernel: str
    sources: tuple[sources.Source, ...]
    warnings: tuple[str, ...]


def files() -> dict[str, Path]:
    """Path in the image -> file of ours that has to be there before the initramfs is made."""
    image = TEMPLATES / "image"
    found = {
        str(path.relative_to(image)): path for path in (image / _CARRIED_BY_INITRAMFS).rglob("*") if path.is_file()
    }
    lvm_conf = TEMPLATES / "node" / _LVM_CONF
    return found | ({_LVM_CONF: lvm_conf} if lvm_conf.is_file() else {})


def wanted_packages(debian: Debian) -> tuple[str, ...]:
    """What is installed in any case; firmware comes on top, where the mirror has it."""
    https = ("ca-certificates",) if debian.mirror.startswith("https:") else ()
    return tuple(sorted({*packages.PACKAGES, *debian.packages, *https}))


def key(debian: Debian, mirror: sources.Mirror) -> str:
    """Content key of the layer: what is asked for, from where, by which tools. What the mirror holds today is not in
    it: a finished layer stays good until one of these changes or the cache is cleared.
    """
    inputs: Mapping[str, object] = {
        "suite": debian.suite,
        "mirror": asdict(mirror),
        "packages": wanted_packages(debian),
        "firmware": packages.FIRMWARE,
        "debconf": packages.DEBCONF,
        "dpkg": packages.DPKG_OPTIONS,
        "files": {name: contents([path], path.parent)[path.name] for name, path in files().items()},
        "code": contents((Path(__file__).parent / name for name in _CODE), Path(__file__).parent),
        "mmdebstrap": run(["mmdebstrap", "--version"]).stdout.strip(),
    }
    return content_key(inputs)


def rootfs_layer(debian: Debian, mirror: sources.Mirror, cache: Cache, progress: Progress) -> Rootfs:
    """The layer from the cache, or newly made. Raises BuildError; a layer in the cache is always whole."""
    layer_key = key(debian, mirror)
    layer = cache.layer("rootfs", layer_key)
    waiting = "another build is making the same root file system; waiting for it"
    with cache.lock("rootfs", layer_key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            with cache.scratch() as scratch:
                _make(debian, mirror, scratch, progress)
                cache.publish(scratch / "layer", "rootfs", layer_key)
    return _load(layer, layer_key)


def _make(debian: Debian, mirror: sources.Mirror, scratch: Path, progress: Progress) -> None:
    with progress.stage("asking the mirror"):
        offer = sources.survey(mirror, debian.suite, scratch)
    layer, overlay = scratch / "layer", scratch / "files"
    layer.mkdir()
    stage_files(files(), overlay)
    job = RootfsJob(
        tree=str(scratch / "tree"),
        tar=str(layer / "rootfs.tar"),
        mmdebstrap=tuple(mmdebstrap_argv(debian, offer, scratch, scratch / "tree")),
        files=str(overlay),
        masked=packages.MASKED_UNITS,
        disabled=packages.DISABLED_UNITS,
        enabled=packages.ENABLED_UNITS,
    )
    with progress.stage("installing Debian into the root file system"):
        result = run_inside(job, timeout=_TIMEOUT)
    facts = {
        "kernel": result.kernel,
        "sources": [asdict(source) for source in offer.sources],
        "warnings": offer.warnings,
    }
    write_file(layer / "layer.json", json.dumps(facts, indent=1))


def mmdebstrap_argv(debian: Debian, offer: sources.Offer, scratch: Path, target: Path) -> list[str]:
    """mmdebstrap(1) for the packages of the image; its input files are written to scratch."""
    answers = scratch / "debconf"
    answers.write_text(packages.DEBCONF)
    lines = [line for source in offer.sources for line in source.one_line()]
    return [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=apt",
        "--architectures=amd64",
        f"--keyring={sources.KEYRING}",
        f"--include={','.join((*wanted_packages(debian), *offer.firmware))}",
        *(f"--aptopt={option}" for option in sources.apt_options()),
        *(f"--dpkgopt={option}" for option in packages.DPKG_OPTIONS),
        f"--essential-hook=upload {shlex.quote(str(answers))} /tmp/debconf",
        '--essential-hook=chroot "$1" debconf-set-selections /tmp/debconf',
        debian.suite,
        str(target),
        *lines,
    ]


def stage_files(wanted: Mapping[str, Path], directory: Path) -> None:
    """Copy files to the places below directory that they have in the image; readable, executable where they are."""
    for name, source in wanted.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    for path in (directory, *directory.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _load(layer: Path, layer_key: str) -> Rootfs:
    facts = json.loads((layer / "layer.json").read_text())
    offered = tuple(
        sources.Source(source["uri"], tuple(source["suites"]), tuple(source["components"]))
        for source in facts["sources"]
    )
    return Rootfs(layer_key, layer / "rootfs.tar", facts["kernel"], offered, tuple(facts["warnings"]))
