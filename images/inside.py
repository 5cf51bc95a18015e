"""The part of the build that runs as (mapped) root inside its own namespaces: `python -m images.inside JOB < json`.

Mounts made here are seen by nobody else. Errors go to standard error as plain text, for the process outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from config.door import Output, run
from config.errors import XenpairError
from images import disk, grub
from images.errors import BuildError
from images.jobs import DiskJob, Result, RootfsJob
from images.manifest import parse_dpkg_status

_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true", "LC_ALL": "C.UTF-8"}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_LEFTOVERS = (
    "boot/grub/grubenv",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/0000*",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "etc/.pwd.lock",
    "etc/*-",
    "mnt/*",
    "root/.*history",
    "tmp/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
    "var/mnt/*",
)


class Tree:
    """A root file system that is not the running one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """With /proc, and a /dev of its own that leaves nothing in the tree."""
        dev, proc = self.path / "dev", self.path / "proc"
        run(["mount", "-t", "proc", "proc", proc])
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "dev", dev])
        try:
            for name in _DEVICES:
                (dev / name).touch()
                run(["mount", "--bind", f"/dev/{name}", dev / name])
            for name, target in _LINKS.items():
                (dev / name).symlink_to(target)
            yield
        finally:
            run(["umount", "--recursive", dev])
            run(["umount", proc])

    def run(self, *argv: str) -> Output:
        """Run a program of the tree, as root of the tree."""
        return run(["chroot", self.path, *argv], timeout=600, env=_QUIET)

    def lay_over(self, files: Path) -> None:
        """Put files over the tree, owned by its root."""
        for source in sorted(files.rglob("*")):
            target = self.path / source.relative_to(files)
            if source.is_dir():
                target.mkdir(exist_ok=True)
            else:
                shutil.copy2(source, target)
                os.chown(target, 0, 0)

    def result(self) -> Result:
        """The facts that the manifest tells."""
        status = (self.path / "var/lib/dpkg/status").read_text()
        return Result(parse_dpkg_status(status), self.kernel())

    def kernel(self) -> str:
        """Version of the one kernel."""
        kernels = sorted(path.name.removeprefix("vmlinuz-") for path in (self.path / "boot").glob("vmlinuz-*"))
        if len(kernels) != 1:
            raise BuildError(f"expected one kernel in the image, found {', '.join(kernels) or 'none'}")
        return kernels[0]


def make_rootfs(job: RootfsJob) -> Result:
    """mmdebstrap into a tree; the initramfs made once, when all that it carries is there; then a tar."""
    tree = Tree(Path(job.tree))
    # INITRD=No keeps the kernel package from making an initramfs that would be made again (initramfs-tools(7)).
    run(job.mmdebstrap, timeout=3600, env={**_QUIET, "INITRD": "No", **_proxies()})
    tree.lay_over(Path(job.files))
    with tree.mounted():
        _settle_units(tree, job)
        tree.run("update-initramfs", "-c", "-k", tree.kernel())
    _clean(tree)
    run(_tar_argv(tree.path, Path(job.tar)), timeout=1800)
    return tree.result()


def make_disk(job: DiskJob) -> Result:
    """Everything that differs from image to image, and then the image."""
    tree, identity, raw = Tree(Path(job.tree)), disk.Identity.of(job.key), Path(job.raw)
    tree.path.mkdir()
    run(
        ["tar", "-x", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", tree.path, "-f", job.tar], timeout=1800
    )
    tree.lay_over(Path(job.files))
    with tree.mounted():
        shutil.copy2(job.deb, tree.path / "mnt" / Path(job.deb).name)
        tree.run("dpkg", "--install", f"/mnt/{Path(job.deb).name}")
        core, loader = _boot_loaders(tree, identity)
    _clean(tree)
    _boot_files(tree)
    config = (tree.path / "boot/grub/grub.cfg").read_text()
    grub.check_default_is_xen(config, identity.root, lambda path: (tree.path / path.lstrip("/")).is_file())
    _mark_updated(tree)
    _write_disk(raw, tree, identity, core, loader)
    return tree.result()


def _settle_units(tree: Tree, job: RootfsJob) -> None:
    known = {path.name for path in (tree.path / "usr/lib/systemd/system").iterdir()}
    for verb, units in (("mask", job.masked), ("disable", job.disabled), ("enable", job.enabled)):
        present = [unit for unit in units if unit in known or verb == "mask"]
        if present:
            tree.run("systemctl", verb, *present)


def _clean(tree: Tree) -> None:
    """Nothing that is secret, unique, a cache, or of the build host."""
    for pattern in _LEFTOVERS:
        for path in tree.path.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for log in (tree.path / "var/log").rglob("*"):
        if log.is_file() and log.name != "README":
            log.unlink()
    # Empty, not missing and not "uninitialized": systemd fills it in without taking this for a first boot, which would
    # apply the presets over what is enabled here (machine-id(5)).
    (tree.path / "etc/machine-id").write_text("")
    (tree.path / "etc/hostname").write_text("localhost\n")


def _mark_updated(tree: Tree) -> None:
    """Tell systemd that /etc and /var are as new as /usr, or it rebuilds caches for half a minute at first boot.

    See ConditionNeedsUpdate= in systemd.unit(5).
    """
    newest = int((tree.path / "usr").stat().st_mtime) + 1
    for name in ("etc/.updated", "var/.updated"):
        (tree.path / name).write_text(f"TIMESTAMP_NSEC={newest * 10**9}\n")
        os.utime(tree.path / name, (newest, newest))


def _tar_argv(tree: Path, tar: Path) -> list[str]:
    # Device nodes cannot be made again without real root, and the running system has its own.
    options = ["--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*"]
    return ["tar", "-c", *options, "-C", str(tree), "-f", str(tar), "."]


def _boot_loaders(tree: Tree, identity: disk.Identity) -> tuple[bytes, bytes]:
    """core.img for BIOS and the loader for UEFI, made by the image's own GRUB."""
    (tree.path / "mnt/early.cfg").write_text(grub.early_config(identity.root))
    bios = ["-O", "i386-pc", "-p", "/boot/grub", "-c", "/mnt/early.cfg", "-o", "/mnt/core.img", *grub.BIOS_MODULES]
    tree.run("grub-mkimage", *bios)
    tree.run("grub-mkimage", "-O", "x86_64-efi", "-p", "/EFI/debian", "-o", "/mnt/grub.efi", *grub.EFI_MODULES)
    return (tree.path / "mnt/core.img").read_bytes(), (tree.path / "mnt/grub.efi").read_bytes()


def _boot_files(tree: Tree) -> None:
    for platform in ("i386-pc", "x86_64-efi"):
        target = tree.path / "boot/grub" / platform
        target.mkdir(exist_ok=True)
        for source in (tree.path / "usr/lib/grub" / platform).iterdir():
            if re.fullmatch(r".*\.(mod|lst)", source.name):
                shutil.copy2(source, target)


def _write_disk(raw: Path, tree: Tree, identity: disk.Identity, core: bytes, loader: bytes) -> None:
    with raw.open("xb") as f:
        f.truncate(disk.DISK_SIZE)
    run(disk.partition_argv(raw), stdin=disk.partition_script(identity))
    run(disk.root_argv(raw, tree.path, identity), timeout=1800)
    _write_esp(raw, identity, loader, raw.parent / "esp")
    lba = disk.BIOS_BOOT.lba
    boot_img = (tree.path / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    with raw.open("r+b") as f:
        f.write(grub.boot_sector(boot_img, lba))
        f.seek(disk.BIOS_BOOT.start)
        f.write(grub.core_image(core, lba, disk.BIOS_BOOT.size))


def _write_esp(raw: Path, identity: disk.Identity, loader: bytes, stage: Path) -> None:
    for name in ("BOOT/BOOTX64.EFI", "debian/grubx64.efi"):
        path = stage / "EFI" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(loader)
    (stage / "EFI/debian/grub.cfg").write_text(grub.efi_config(identity.root))
    run(disk.esp_argv(raw, identity))
    run(disk.esp_copy_argv(raw, stage / "EFI"))
    shutil.rmtree(stage)


def _proxies() -> dict[str, str]:
    return {name: os.environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if name in os.environ}


def main(argv: Sequence[str]) -> int:
    """Do the job that standard input describes; its result goes to standard output as JSON."""
    fields = json.load(sys.stdin)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        result = make_rootfs(RootfsJob(**fields)) if argv[1] == "RootfsJob" else make_disk(DiskJob(**fields))
    except (XenpairError, OSError) as e:
        sys.stderr.write(f"{e}\n")
        return 1
    json.dump(asdict(result), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
