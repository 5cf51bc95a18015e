"""A room of its own for everything that needs root: mount and process namespaces, and a user namespace without root.

Whatever is mounted in there is seen by nobody else and goes away with the last process; and when xenpair itself dies,
even by SIGKILL, the kernel ends every process in there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
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


def check() -> None:
    """Raise PreflightError unless this host lets us make such namespaces."""
    try:
        run(isolated(["mount", "-t", "tmpfs", "xenpair", "/mnt"]))
    except CommandError as e:
        raise PreflightError(
            f"this host refuses the namespaces that the build runs in: {e.stderr.strip() or e.message}",
            hint="run the build as root, or allow user namespaces: the package uidmap, a range for your user in "
            "/etc/subuid and /etc/subgid (`usermod --add-subuids`), and sysctl user.max_user_namespaces above 0",
        ) from e
