"""A guest's root file system that was unpacked from somebody's tarball, and what is written into it.

It is foreign: a directory in it may be a symbolic link to one of ours. So a path is walked one name at a time, no link
in it is followed, and what a link stands in the place of is put there instead of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from firstboot.errors import GuestError
from firstboot.guests.definition import Definition

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_LIMIT = 1 << 20
"""Bytes of a file that are read; the files that we read have a few lines."""

FSTAB = "/dev/xvda / ext4 errors=remount-ro 0 1\n"
HOSTS = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n"
INTERFACES = "etc/network/interfaces"
NETWORKD = "systemd/system/systemd-networkd.service"
NETWORKD_WANTED = f"etc/{NETWORKD}".replace("system/", "system/multi-user.target.wants/")


class Tree:
    """The file system below a directory. Raises GuestError where something in it is not as it has to be."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = os.open(self._root, _DIRECTORY)
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)

    def exists(self, path: str) -> bool:
        """Whether there is anything by that name, a link included; not where a link leads to it."""
        try:
            with self._parent(path) as (directory, name):
                os.stat(name, dir_fd=directory, follow_symlinks=False)
        except (FileNotFoundError, GuestError):
            return False
        return True

    def is_directory(self, path: str) -> bool:
        """Whether it is a directory, and no link to one."""
        try:
            with self._parent(path) as (directory, name):
                return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        except (FileNotFoundError, GuestError):
            return False

    def read(self, path: str) -> str:
        """The text of a file; empty where there is none, or something else than a file."""
        # Without O_NONBLOCK, a FIFO in its place would never be opened.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with self._parent(path) as (directory, name):
                fd = os.open(name, flags, dir_fd=directory)
        except FileNotFoundError:
            return ""
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENXIO):
                return ""
            raise _trouble(path, e) from e
        with os.fdopen(fd, "rb") as f:
            return f.read(_READ_LIMIT).decode(errors="replace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""

    def write(self, path: str, text: str, *, mode: int = 0o644, directories: int = 0o755) -> None:
        """Put a file there in the place of whatever has that name, and make its directories with that mode.

        Nothing is synced: the whole file system is, when it is unmounted.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with self._parent(path, make=directories) as (directory, name):
                new = f".{name}.xenpair"
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=directory)
                with os.fdopen(os.open(new, flags, 0o600, dir_fd=directory), "wb") as f:
                    f.write(text.encode())
                    os.fchmod(f.fileno(), mode)
                os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as e:
            raise _trouble(path, e) from e

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link there, unless there is something by that name."""
        try:
            with self._parent(path, make=0o755) as (directory, name), contextlib.suppress(FileExistsError):
                os.symlink(target, name, dir_fd=directory)
        except OSError as e:
            raise _trouble(path, e) from e

    @contextlib.contextmanager
    def _parent(self, path: str, make: int | None = None) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that holds it, and its name there. Raises FileNotFoundError unless make."""
        *directories, name = path.split("/")
        fd = os.dup(self._fd)
        try:
            for directory in directories:
                above, fd = fd, _descend(fd, directory, path, make)
                os.close(above)
            yield fd, name
        finally:
            os.close(fd)


def _descend(fd: int, directory: str, path: str, make: int | None) -> int:
    if directory in ("", ".", ".."):
        raise ValueError(f"{path} is no plain path below the root")
    if make is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, make, dir_fd=fd)
    try:
        return os.open(directory, _DIRECTORY, dir_fd=fd)
    except OSError as e:
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            raise GuestError(
                f"{directory} in {path} is no directory in the new system but a link or a file",
                hint="xenpair follows no link there; put a directory in its place in the tarball",
            ) from e
        raise


def _trouble(path: str, e: OSError) -> GuestError:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return GuestError(f"the new system has no room for {path}", hint="give the guest a larger disk")
    return GuestError(f"{path} in the new system: {e.strerror}")


def check(tree: Tree) -> None:
    """Raises GuestError for what is no root file system, such as one below a directory of its own in the tarball."""
    if missing := [name for name in ("etc", "usr") if not tree.is_directory(name)]:
        raise GuestError(
            f"there is no root file system in it: no {' and no '.join(missing)} at its top",
            hint="pack it from inside: `tar --create --zstd --file rootfs.tar.zst --directory ROOT .`",
        )


def furnish(tree: Tree, definition: Definition, authorized_keys: str) -> None:
    """Make an unpacked system that guest's own: its name, its disk, its network, and who may log in as root."""
    tree.write("etc/hostname", f"{definition.name}\n")
    tree.write("etc/hosts", hosts(tree.read("etc/hosts"), definition.name))
    tree.write("etc/fstab", FSTAB)
    if tree.read("etc/machine-id").strip():
        # Two guests from one tarball would be one to a DHCP server; empty, systemd draws one at the first boot.
        tree.write("etc/machine-id", "", mode=0o444)
    tree.write("etc/systemd/network/10-xenpair.network", networkd(definition))
    if tree.exists(INTERFACES):
        tree.write("etc/network/interfaces.d/xenpair", ifupdown(definition))
        tree.write(INTERFACES, sourcing(tree.read(INTERFACES)))
    else:
        for unit in (f"usr/lib/{NETWORKD}", f"lib/{NETWORKD}"):
            if tree.exists(unit):
                tree.link(NETWORKD_WANTED, f"/{unit}")
    if authorized_keys:
        old = tree.read("root/.ssh/authorized_keys")
        tree.write("root/.ssh/authorized_keys", with_lines(old, authorized_keys), mode=0o600, directories=0o700)


def hosts(old: str, name: str) -> str:
    """With a line for the guest's own name, unless there is one."""
    lines = [line.partition("#")[0].split() for line in old.splitlines()]
    return old if any(name in line[1:] for line in lines) else with_lines(old or HOSTS, f"127.0.1.1\t{name}\n")


def networkd(definition: Definition) -> str:
    """For systemd-networkd. By MAC address: the card's name depends on the guest's kernel line and systemd."""
    match = f"[Match]\nMACAddress={definition.mac}\n\n[Network]\n"
    if definition.address == "dhcp":
        return f"{match}DHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n"
    gateway = f"Gateway={definition.gateway}\n" if definition.gateway else ""
    return f"{match}Address={definition.address}\n{gateway}"


def ifupdown(definition: Definition) -> str:
    """For Debian's ifupdown, interfaces(5), PATTERN MATCHING INTERFACES."""
    auto = f"auto mac/{definition.mac}=xenpair\n"
    if definition.address == "dhcp":
        return f"{auto}iface xenpair inet dhcp\n"
    gateway = f"\tgateway {definition.gateway}\n" if definition.gateway else ""
    return f"{auto}iface xenpair inet static\n\taddress {definition.address}\n{gateway}"


def sourcing(interfaces: str) -> str:
    """With a line that reads interfaces.d, unless there is one."""
    words = (line.split() for line in interfaces.splitlines())
    if any(line[:1] in (["source"], ["source-directory"]) and "interfaces.d" in line[-1] for line in words):
        return interfaces
    return with_lines(interfaces, "source /etc/network/interfaces.d/*\n")


def with_lines(old: str, lines: str) -> str:
    """The old text, its last line ended, and the lines after it."""
    return (old if not old or old.endswith("\n") else f"{old}\n") + lines
