"""Inside the namespace: the first layer's tree, installed, settled, packed, and put into a file system."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.door import run
from images import disk, tools
from images.dependencies import closure
from images.jobs import RAW, STATUS, TAR, TOOLS, Result, RootfsJob
from images.packages import DEBCONF, DISABLED_UNITS, DPKG_OPTIONS, ENABLED_UNITS, MASKED_UNITS
from images.proxies import proxy_environment
from images.tree import SHIMS, Tree
from images.unpack import ROOM, Packages

_DPKG = "var/lib/dpkg"
_DATABASE = {"status": "", "available": "", "arch": "amd64\n"}
_SHIMS = {
    # Nothing is started in the tree.
    "start-stop-daemon": "",
    # Done beside dpkg.
    "depmod": "",
    # First boot makes the one host key that there is.
    "ssh-keygen": "",
}
"""Program -> what its stand-in does."""
_POLICY = "usr/sbin/policy-rc.d"
"""invoke-rc.d(8) and deb-systemd-invoke(1p) ask it; 101 forbids."""


def make_rootfs(job: RootfsJob) -> Result:
    """The packages unpacked and configured; the initramfs made once, beside that; then a tar, and a disk."""
    tree, room, layer = Tree(Path(job.tree), job.date), Path(job.room), Path(job.layer)
    tree.path.mkdir()
    room.mkdir()
    tree.keep_in_memory()
    with Packages(map(Path, job.debs), room) as packages:
        if job.base:
            tree.unpack(Path(job.base))
        else:
            packages.extract_essential(tree.path)
            _begin(tree)
        with _standing_in(tree), tree.mounted(), tree.has_at(ROOM, room):
            if not job.base:
                packages.unpack(packages.essential, tree)
                tree.dpkg("--configure", "--pending")
                (tree.path / "mnt/debconf").write_text(DEBCONF)
                tree.run("debconf-set-selections", "/mnt/debconf")
            packages.unpack(packages.others, tree)
            _configure(tree, packages, job)
            _mark_automatic(tree, [package.name for package in packages.others if package.name not in job.wanted])
            _build_modules(tree, job)
            _settle_units(tree)
    _boot_files(tree)
    tools.take(tree, layer / TOOLS)
    tree.clean()
    with ThreadPoolExecutor(1) as beside:
        packed = beside.submit(run, _tar_argv(tree, layer / TAR), timeout=1800)
        _fill_disk(tree, layer / RAW, disk.Identity.of(job.key))
        packed.result()
    shutil.copyfile(tree.path / _DPKG / "status", layer / STATUS)
    return tree.result()


def _begin(tree: Tree) -> None:
    """What dpkg wants to find."""
    for name, text in _DATABASE.items():
        (tree.path / _DPKG / name).write_text(text)
    (tree.path / "etc/dpkg/dpkg.cfg.d/xenpair").write_text("".join(f"{line}\n" for line in DPKG_OPTIONS))


@contextlib.contextmanager
def _standing_in(tree: Tree) -> Iterator[None]:
    """With what keeps packages from starting anything, and from doing what is done here."""
    (tree.path / SHIMS).mkdir(parents=True)
    for name, text in _SHIMS.items():
        _write_program(tree.path / SHIMS / name, text)
    _write_program(tree.path / _POLICY, "exit 101")
    yield
    (tree.path / _POLICY).unlink()


def _write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _configure(tree: Tree, packages: Packages, job: RootfsJob) -> None:
    """dpkg has one core; beside it the other one indexes the modules and makes the initramfs.

    So all that the initramfs is made of is configured first, and our files for it are laid over that. Packages that
    have no say in it, added to a tree that has one, leave it as it is; and modules that are still to be built, it waits
    for.
    """
    others = {package.name for package in packages.others}
    for_initramfs = _initramfs_packages(tree) & {*others, *(package.name for package in packages.essential)}
    if for_initramfs:
        needed = closure(for_initramfs, [*packages.essential, *packages.others])
        with ThreadPoolExecutor(1) as beside:
            indexed = beside.submit(tree.run, "depmod", tree.kernel())
            tree.dpkg("--configure", *sorted(needed & others))
            tree.lay_over(Path(job.files))
            made = None if job.modules else beside.submit(_make_initramfs, tree)
            tree.dpkg("--configure", "--pending")
            indexed.result()
            if made:
                made.result()
    else:
        tree.dpkg("--configure", "--pending")


def _make_initramfs(tree: Tree) -> None:
    tree.run("update-initramfs", "-c", "-k", tree.kernel())


def _build_modules(tree: Tree, job: RootfsJob) -> None:
    if job.modules:
        environment = {**tree.environment, "INITRD": "No", "APT_CONFIG": job.apt_conf, **proxy_environment()}
        run(job.modules, timeout=3600, env=environment)
        _forget_removed(tree)
        _make_initramfs(tree)


def _forget_removed(tree: Tree) -> None:
    """apt keeps its marks of packages that are gone."""
    marks = tree.path / "var/lib/apt/extended_states"
    there = tree.packages()
    rows = [row for row in marks.read_text().split("\n\n") if row.strip()]
    kept = [row for row in rows if row.splitlines()[0].removeprefix("Package: ") in there]
    marks.write_text("".join(f"{row.strip()}\n\n" for row in kept))


def _initramfs_packages(tree: Tree) -> set[str]:
    """Those that have a say in the initramfs."""
    lists = (tree.path / _DPKG / "info").glob("*.list")
    return {path.stem.partition(":")[0] for path in lists if "/usr/share/initramfs-tools/" in path.read_text()}


def _mark_automatic(tree: Tree, names: Sequence[str]) -> None:
    """Tell the node's apt which packages came as dependencies of others."""
    architecture = "Architecture: amd64\nAuto-Installed: 1\n\n"
    text = "".join(f"Package: {name}\n{architecture}" for name in sorted(names))
    with (tree.path / "var/lib/apt/extended_states").open("a") as f:
        f.write(text)


def _settle_units(tree: Tree) -> None:
    known = {path.name for path in (tree.path / "usr/lib/systemd/system").iterdir()}
    for verb, units in (("mask", MASKED_UNITS), ("disable", DISABLED_UNITS), ("enable", ENABLED_UNITS)):
        present = [unit for unit in units if unit in known or verb == "mask"]
        if present:
            tree.run("systemctl", verb, *present)


def _boot_files(tree: Tree) -> None:
    """What GRUB loads, to where it looks for it."""
    for platform in tools.PLATFORMS:
        target = tree.path / "boot/grub" / platform
        target.mkdir(exist_ok=True, parents=True)
        for source in (tree.path / "usr/lib/grub" / platform).iterdir():
            if re.fullmatch(r".*\.(mod|lst)", source.name):
                shutil.copy2(source, target)


def _fill_disk(tree: Tree, raw: Path, identity: disk.Identity) -> None:
    with raw.open("xb") as f:
        f.truncate(disk.DISK_SIZE)
    mkfs, config = tree.own("usr/sbin/mkfs.ext4"), {"MKE2FS_CONFIG": str(tree.path / "etc/mke2fs.conf")}
    run(disk.root_argv(mkfs, raw, tree.path, identity), env={**tree.environment, **config}, timeout=1800)


def _tar_argv(tree: Tree, tar: Path) -> list[str]:
    # Device nodes cannot be made again without real root, and the running system has its own.
    options = ["--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*"]
    # The same tree gives the same bytes (GNU tar's manual, "Reproducibility").
    options += [f"--mtime=@{tree.date}", "--clamp-mtime", "--format=posix"]
    options += ["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    return ["tar", "-c", *options, "-C", str(tree.path), "-f", str(tar), "."]
