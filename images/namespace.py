"""A room of its own for everything that needs root: mount and process namespaces, and a user namespace without root.

Whatever is mounted in there is seen by nobody else and goes away with the last process; and when xenpair itself dies,
even by SIGKILL, the kernel ends every process in there.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from config.door import run
from config.errors import CommandError
from images.errors import PreflightError


def isolated(argv: Sequence[str | Path], *, root: bool | None = None) -> list[str]:
    """The argv that runs a program as (mapped) root in namespaces of its own.

    setpriv ties unshare to this process, --kill-child ties the first process of the namespace to unshare, and the
    kernel kills the others with the first (unshare(1), pid_namespaces(7)).
    """
    if root is None:
        root = os.geteuid() == 0
    user = [] if root else ["--user", "--map-auto", "--map-root-user"]
    inner = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *user, *inner, "--", *(str(word) for word in argv)]


def remove_tree(path: Path) -> None:
    """Remove a tree that may hold files of mapped users."""
    if path.exists():
        run(isolated(["rm", "-rf", "--one-file-system", path]), timeout=600)


_SETTINGS = (
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
)
"""Below /proc/sys, what may forbid user namespaces (namespaces(7), Debian's and Ubuntu's kernels), and what allows."""


def mend(uid: int, user: str, read: Callable[[str], str]) -> str:
    """The command that makes such namespaces possible. read() gives a file's content, empty where there is none."""
    if uid == 0:
        return "in a container: start it with --privileged, or with --cap-add SYS_ADMIN"
    for name, forbids, setting in _SETTINGS:
        if read(f"/proc/sys/{name}").strip() == forbids:
            return f"sudo sysctl -w {setting}"
    ranges = ("--add-subuids", "/etc/subuid"), ("--add-subgids", "/etc/subgid")
    options = [f"{option} 100000-165535" for option, path in ranges if not _has_range(read(path), uid, user)]
    return f"sudo usermod {' '.join(options)} {user}" if options else "run the build as root: sudo"


def _has_range(text: str, uid: int, user: str) -> bool:
    """Whether a file of subuid(5)'s form gives that user as many numbers as an image has."""
    rows = (line.split(":") for line in text.splitlines())
    return any(
        len(row) == 3 and row[0] in (user, str(uid)) and row[2].isdigit() and int(row[2]) >= 1 << 16 for row in rows
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def check() -> None:
    """Raise PreflightError unless this host lets us make such namespaces."""
    try:
        run(isolated(["mount", "-t", "tmpfs", "xenpair", "/mnt"]))
    except CommandError as e:
        raise PreflightError(
            f"this host refuses the namespaces that the build runs in: {e.stderr.strip() or e.message}",
            hint=mend(os.geteuid(), getpass.getuser(), _read),
        ) from e
