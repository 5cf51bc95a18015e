"""Inside the namespace: what the installer has on top of the dom0's initramfs, and the boot loaders of its medium.

The kernel unpacks one archive over the other. So what the dom0's initramfs holds already is left out here, and
everything goes to its real place below /usr: a directory in the place of a link such as /lib would replace it.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from config.door import run
from images import cpio, loaders
from images.jobs import CodeJob, InstallerJob, Result
from images.tree import Tree

LARGE = "large.img"
KERNEL = "vmlinuz"
INITRAMFS = "initrd.img"
"""What the layer holds, beside the boot loaders."""

PROGRAMS = (
    *("python3", "zstd", "ssh-keygen", "ip", "dd"),
    *("sfdisk", "lsblk", "wipefs", "blkdiscard", "blockdev", "losetup", "mount", "umount", "findmnt", "mdadm"),
)
"""Taken as far as the image has them; udevadm, modprobe, lvm and e2fsck are in the dom0's initramfs."""
FILES = (
    # Without it a CD has no label in udev's eyes.
    "usr/lib/udev/cdrom_id",
    "usr/lib/udev/rules.d/60-cdrom_id.rules",
    # Opened by name: when a thread ends, and to unpack the image.
    "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "usr/lib/x86_64-linux-gnu/libzstd.so.1",
)
DISTRIBUTED = ("_yaml", "annotated_types", "pydantic", "pydantic_core", "yaml")
"""Packages of Debian's that the installer and config/ import."""

MODULES = re.compile(
    r"kernel/(drivers/net/(ethernet/(?!mellanox/mlxsw/)|phy/|mdio/|pcs/|usb/|hyperv/|vmxnet3/|virtio_net)"
    r"|drivers/(usb/storage/|block/loop|md/raid1|hid/(usbhid/|hid-generic))"
    r"|fs/(isofs/|fat/|nls/nls_(ascii|cp437|iso8859-1|utf8)))"
)
"""Wired network cards (no switch chips), and what a medium is read with."""

_LEFT_OUT = re.compile(
    r"(.*/)?(__pycache__|tests?|idlelib|tkinter|turtledemo|ensurepip|venv|pydoc_data|lib2to3|sqlite3|curses|dbm|_pyrepl"
    r"|turtle\.py|sitecustomize\.py|lib-dynload/(_sqlite3|_curses|_dbm|_test|_xx|xx|readline|_codecs_)[^/]*)"
)
"""Of Python's library: what needs a terminal, a data base, a test or a compiler, and character sets of East Asia."""
_LIBRARY = "usr/lib/python3/dist-packages"
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_MERGED = ("bin", "lib", "lib64", "sbin")
_LEVEL = 9
"""zstd's, for the large part, which is packed once. Beyond it each further hundredth costs several times the time."""
_CODE_LEVEL = 3


def make_installer(job: InstallerJob) -> Result:
    """The large part, the kernel, the dom0's initramfs and the boot loaders, all into job.layer."""
    tree, layer = Tree(Path(job.tree), job.date), Path(job.layer)
    _unpack(tree, job.tar, ["."])
    kernel = tree.kernel()
    with tree.mounted():
        stage = Stage(tree, _unpacked_initramfs(tree, kernel))
        stage.add_programs()
        stage.add_python()
        stage.add_modules(kernel)
        loaders.make(tree, layer, job.date)
        cpio.pack(stage.root, layer / LARGE, level=_LEVEL)
    shutil.copyfile(tree.path / f"boot/vmlinuz-{kernel}", layer / KERNEL)
    shutil.copyfile(tree.path / f"boot/initrd.img-{kernel}", layer / INITRAMFS)
    return tree.result()


def make_code(job: CodeJob) -> Result:
    """The small part: our files as they are, with their Python compiled by the image's own."""
    tree = Tree(Path(job.tree), job.date)
    _unpack(tree, job.tar, ["./lib", "./lib64", "./usr/lib64", "./usr/lib/x86_64-linux-gnu", "./usr/bin/python3*"])
    _unpack(tree, job.tar, ["./usr/lib/python3*"])
    stage = tree.path / "stage"
    shutil.copytree(job.files, stage)
    _compile(tree, "/stage", "usr/lib/xenpair", beside=False)
    cpio.pack(stage, Path(job.archive), level=_CODE_LEVEL)
    return Result()


def _unpack(tree: Tree, tar: str, members: list[str]) -> None:
    tree.path.mkdir(exist_ok=True)
    options = ["--numeric-owner", "--wildcards", "--no-wildcards-match-slash"]
    run(["tar", "-x", *options, "-C", tree.path, "-f", tar, *members], timeout=1800)


def _unpacked_initramfs(tree: Tree, kernel: str) -> Path:
    """Unpacked by the image's own tool: microcode goes to a directory `early`, and then the rest to `main`."""
    tree.run("unmkinitramfs", f"/boot/initrd.img-{kernel}", "/mnt/initramfs")
    unpacked = tree.path / "mnt/initramfs"
    return unpacked / "main" if (unpacked / "main").is_dir() else unpacked


def _compile(tree: Tree, root: str, directory: str, *, beside: bool) -> None:
    """Compile to caches that are never compared with their sources: an initramfs has no times to compare.

    beside: in the place of the sources, which can then go.
    """
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/"]
    tree.run("python3", "-m", "compileall", *options, *(["-b"] if beside else []), f"{root}/{directory}")


class Stage:
    """The root of the large part while it is filled; base is what the dom0's initramfs holds already."""

    def __init__(self, tree: Tree, base: Path) -> None:
        self._tree = tree
        self._base = base
        self.root = tree.path / "mnt/stage"
        self.root.mkdir()

    def add(self, name: str) -> None:
        """A file of the tree; a symbolic link with what it points to."""
        path = _real(name)
        source, target = self._tree.path / path, self.root / path
        if os.path.lexists(target):
            return
        if source.is_symlink():
            # An absolute link replaces what it is joined to.
            self.add(str(path.parent / source.readlink()))
        if not _same(source, self._base / path):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)

    def add_linked(self, name: str) -> None:
        """A program or library, with the libraries that it is linked to."""
        self.add(name)
        listed = self._tree.run(_LOADER, "--list", f"/{_real(name)}").stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            self.add(library)

    def add_programs(self) -> None:
        """What the installer calls."""
        for program in PROGRAMS:
            places = [f"usr/{directory}/{program}" for directory in ("sbin", "bin")]
            for place in places:
                if (self._tree.path / place).exists():
                    self.add_linked(place)
        for name in FILES:
            self.add(name)

    def add_python(self) -> None:
        """Python's library and the packages that we import; compiled, without the sources."""
        (standard,) = (self._tree.path / "usr/lib").glob("python3.*")
        directories = [standard, *(self._tree.path / _LIBRARY / name for name in DISTRIBUTED)]
        files = [path for directory in directories for path in directory.rglob("*")]
        files.append(self._tree.path / _LIBRARY / "typing_extensions.py")
        for path in files:
            name = str(path.relative_to(self._tree.path))
            if path.suffix == ".so" and not _left_out(name):
                self.add_linked(name)
            elif path.suffix == ".py" and not _left_out(name):
                self.add(name)
        for directory in (f"usr/lib/{standard.name}", _LIBRARY):
            _compile(self._tree, "/mnt/stage", directory, beside=True)
        for source in self.root.rglob("usr/lib/python3*/**/*.py"):
            source.unlink()

    def add_modules(self, kernel: str) -> None:
        """Drivers with what they depend on and their firmware, and an index of all that there is then."""
        directory = PurePosixPath("usr/lib/modules", kernel)
        text = (self._tree.path / directory / "modules.dep").read_text()
        chosen = sorted(with_dependencies(text, MODULES))
        for module in chosen:
            self.add(str(directory / module))
        paths = [f"/{directory / module}" for module in chosen]
        for firmware in self._tree.run("modinfo", "-k", kernel, "-F", "firmware", *paths).stdout.split():
            for name in (f"usr/lib/firmware/{firmware}{suffix}" for suffix in ("", ".xz", ".zst")):
                if (self._tree.path / name).is_file():
                    self.add(name)
        self._index_modules(kernel, directory)

    def _index_modules(self, kernel: str, directory: PurePosixPath) -> None:
        """depmod over both archives' modules, since the index replaces that of the dom0's initramfs."""
        merged = self._tree.path / "mnt/merged"
        for part in (self._base, self.root):
            shutil.copytree(part / directory, merged / directory, dirs_exist_ok=True)
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy2(self._tree.path / directory / name, merged / directory)
        (merged / "lib").symlink_to("usr/lib")
        self._tree.run("depmod", "-b", "/mnt/merged", kernel)
        for index in (merged / directory).glob("modules.*"):
            shutil.copy2(index, self.root / directory)


def with_dependencies(modules_dep: str, wanted: re.Pattern[str]) -> set[str]:
    """Of a modules.dep (modules.dep(5)), the modules whose names begin so, and all that those depend on."""
    rows = [line.partition(":") for line in modules_dep.splitlines()]
    return {name for module, _, needs in rows if wanted.match(module) for name in (module, *needs.split())}


def _left_out(name: str) -> bool:
    return any(_LEFT_OUT.fullmatch(part) for part in _prefixes(name))


def _prefixes(name: str) -> Iterator[str]:
    path = PurePosixPath(name)
    return (str(prefix) for prefix in (path, *path.parents))


def _real(name: str) -> PurePosixPath:
    """Where a path of the tree really is: the directories that were merged into /usr are links to there."""
    parts: list[str] = []
    for part in PurePosixPath(name.lstrip("/")).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return PurePosixPath(*(["usr"] if parts[0] in _MERGED else []), *parts)


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return (
        other.is_file()
        and (one.stat().st_mode & 0o100) == (other.stat().st_mode & 0o100)
        and filecmp.cmp(one, other, shallow=False)
    )
