"""A root file system in a directory: programs run in it, files laid over it, and what must not stay in it.

Only for use inside the build's namespaces: mounts made here are seen by nobody else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from config.door import SYSTEM_PATH, Output, run
from images.dpkg import versions
from images.errors import BuildError
from images.jobs import Result

QUIET = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true", "LC_ALL": "C.UTF-8"}
SHIMS = "mnt/shims"
"""Programs that stand in for others while dpkg runs."""
_LARGEST = 3 << 29
"""Bytes that a tree may take in memory, with the initramfs while it is put together."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_LEFTOVERS = (
    "boot/grub/grubenv",
    "dev/*",
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
    "run/*",
    "tmp/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/cache/apt/archives/lock",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*_*",
    "var/lib/apt/lists/lock",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
    "var/mnt/*",
)


class Tree:
    """A root file system that is not the running one.

    date: what is taken for now by every program that runs in it, and no file of an image is newer; seconds since the
    epoch (https://reproducible-builds.org/specs/source-date-epoch/).
    """

    def __init__(self, path: Path, date: int) -> None:
        self.path = path
        self.date = date

    @property
    def environment(self) -> dict[str, str]:
        """For programs that run in it, or on it."""
        return {**QUIET, "SOURCE_DATE_EPOCH": str(self.date)}

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

    @contextlib.contextmanager
    def has_at(self, place: str, directory: Path) -> Iterator[None]:
        """With a directory of the build host at a place in it."""
        (self.path / place).mkdir()
        run(["mount", "--bind", directory, self.path / place])
        try:
            yield
        finally:
            run(["umount", self.path / place])

    def keep_in_memory(self) -> None:
        """Where memory is plenty, put the tree there; gone with the namespace.

        Else it is on the disk, which takes longer.
        """
        if _available_memory() > 3 * _LARGEST:
            run(["mount", "-t", "tmpfs", "-o", f"mode=0755,size={_LARGEST}", "tree", self.path])

    def unpack(self, tar: Path, without: Sequence[str] = ()) -> None:
        """Fill it from a tar, but for some directories."""
        options = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--anchored"]
        options += [f"--exclude=./{directory}" for directory in without]
        run(["tar", "-x", *options, "-C", self.path, "-f", tar], timeout=1800)

    def run(self, *argv: str) -> Output:
        """Run a program of the tree, as root of the tree."""
        return run(["chroot", self.path, *argv], timeout=600, env=self.environment)

    def dpkg(self, *words: str) -> Output:
        """Run the tree's dpkg, which need not survive a power cut, with what stands in the programs' way first."""
        # INITRD=No keeps the kernel's package from making an initramfs that would be made again (initramfs-tools(7)).
        environment = {**self.environment, "INITRD": "No", "PATH": f"/{SHIMS}:{SYSTEM_PATH}"}
        return run(["chroot", self.path, "dpkg", "--force-unsafe-io", *words], timeout=1800, env=environment)

    def own(self, program: str) -> list[str]:
        """argv prefix: a program of the tree that sees the build host's files. So the image does not depend on the
        version that the host has.
        """
        loader, libraries = self.path / "usr/lib64/ld-linux-x86-64.so.2", self.path / "usr/lib/x86_64-linux-gnu"
        return [str(loader), "--library-path", str(libraries), str(self.path / program)]

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
        boot = (path for path in (self.path / "boot").rglob("*") if path.is_file())
        return Result(self.packages(), self.kernel(), sorted(f"/{path.relative_to(self.path)}" for path in boot))

    def packages(self) -> dict[str, str]:
        """Package -> version of what is installed."""
        return versions((self.path / "var/lib/dpkg/status").read_text())

    def kernel(self) -> str:
        """Version of the one kernel."""
        kernels = sorted(path.name.removeprefix("vmlinuz-") for path in (self.path / "boot").glob("vmlinuz-*"))
        if len(kernels) != 1:
            raise BuildError(f"expected one kernel in the image, found {', '.join(kernels) or 'none'}")
        return kernels[0]

    def clean(self) -> None:
        """Leave nothing that is secret, unique, a cache, or of the build host."""
        for pattern in _LEFTOVERS:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for log in (self.path / "var/log").rglob("*"):
            if log.is_file() and log.name != "README":
                log.unlink()
        # Empty, not missing and not "uninitialized": systemd fills it in without taking this for a first boot, which
        # would apply the presets over what is enabled here (machine-id(5)).
        (self.path / "etc/machine-id").write_text("")
        (self.path / "etc/hostname").write_text("localhost\n")


def _available_memory() -> int:
    """Bytes that the machine has free, and that a limit on this control group (cgroups(7), version 2) leaves."""
    match = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    found = [int(match[1]) * 1024 if match else 0]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(found)
