"""The installer: the dom0's kernel and initramfs as they are, and behind them an archive of ours, installer.img.

That is made of two parts, end to end. The large one (Python, network drivers, tools) depends on the root file system
alone, and is kept as a layer; the small one (our code, and the key that it trusts) is made in a moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.cache import Cache, content_key
from images.files import EPOCH, File, code, fingerprints, read_tree, write_tree
from images.jobs import REPOSITORY, CodeJob, InstallerJob, run_inside
from images.makeinstaller import INITRAMFS, KERNEL, LARGE
from images.progress import Progress
from images.rootfs import TEMPLATES, Rootfs
from images.signing import SIGNERS

INSTALLER = "installer.img"
BOOTED = (KERNEL, INITRAMFS, INSTALLER)
"""In the order in which a boot loader takes them."""

OPTIONS = "boot=xenpair console=tty0 console=ttyS0,115200"
"""Kernel command line of every installation; where the image comes from is added by who boots it."""

_PRIVATE = "usr/lib/xenpair"
_CODE = ("cpio.py", "inside.py", "loaders.py", "makeinstaller.py", "tree.py")
_TIMEOUT = 1800.0
_YEAR = 365 * 86400
"""Seconds. The date of a medium, which is its UUID too, lies within a year of EPOCH."""


@dataclass(frozen=True)
class Request:
    """What the installer is made of. layer_key is that of the large part, key that of the whole."""

    files: Mapping[str, File]
    layer_key: str
    key: str

    @classmethod
    def of(cls, rootfs_key: str, signers: str) -> Request:
        """For a root file system, and the key that images are signed with."""
        files = carried(signers)
        layer_key = content_key({"rootfs": rootfs_key, "code": code(_CODE)})
        return cls(files, layer_key, content_key({"layer": layer_key, "files": fingerprints(files)}))

    @property
    def date(self) -> int:
        """Seconds since the epoch: the same for the same large part, by which GRUB knows its medium."""
        return EPOCH + int(self.layer_key[:8], 16) % _YEAR


def carried(signers: str, repository: Path = REPOSITORY) -> dict[str, File]:
    """Path in the initramfs -> file, for all that is ours."""
    found = {name: file for name, file in read_tree(TEMPLATES / "installer").items() if "/" in name}
    for package in ("config", "firstboot"):
        modules = read_tree(repository / package).items()
        found |= {f"{_PRIVATE}/{package}/{name}": file for name, file in modules if name.endswith(".py")}
    return {**found, f"etc/xenpair/{SIGNERS}": File(signers.encode())}


def installer_layer(request: Request, base: Rootfs, cache: Cache, progress: Progress) -> Path:
    """Directory of the large part, with kernel, initramfs and boot loaders: from the cache, or newly made."""
    layer = cache.layer("installer", request.layer_key)
    waiting = "another build is making the same installer; waiting for it"
    with cache.lock("installer", request.layer_key, waiting=lambda: progress.note(waiting)):
        if not layer.is_dir():
            with cache.scratch() as scratch, progress.stage("making the installer"):
                made = scratch / "layer"
                made.mkdir()
                job = InstallerJob(tree=str(scratch / "tree"), tar=str(base.tar), layer=str(made), date=request.date)
                run_inside(job, timeout=_TIMEOUT)
                cache.publish(made, "installer", request.layer_key)
    return layer


def write_installer(request: Request, base: Rootfs, layer: Path, target: Path, cache: Cache) -> None:
    """Write installer.img: the layer's large part, and behind it the small one."""
    with cache.scratch() as scratch:
        write_tree(request.files, scratch / "files")
        small = scratch / "small.img"
        job = CodeJob(
            tree=str(scratch / "tree"),
            tar=str(base.tar),
            files=str(scratch / "files"),
            archive=str(small),
            date=base.date,
        )
        run_inside(job, timeout=_TIMEOUT)
        with target.open("xb") as whole:
            for part in (layer / LARGE, small):
                with part.open("rb") as f:
                    shutil.copyfileobj(f, whole)
                # The kernel takes the next archive at a multiple of four.
                whole.write(bytes(-whole.tell() % 4))
