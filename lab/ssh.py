"""SSH into the lab's nodes: the lab's own key, and one connection that later logins share.

A login costs seconds of CPU under emulation, so the first one stays open for those that follow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.door import run, write_file

KEY = "id_ed25519"
CONFIG = "ssh_config"
KNOWN_HOSTS = "known_hosts"
PERSIST = 600
"""Seconds that an unused connection stays open."""
_SOCKET_LIMIT = 107 - 18
"""sun_path (unix(7)) less the random suffix that ssh appends while it makes the socket."""


def make_key(directory: Path) -> str:
    """Make the lab's key pair, mode 0600, and return the public key's line."""
    key = directory / KEY
    if not key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "xenpair lab", "-f", key])
    return key.with_suffix(".pub").read_text().strip()


def write_config(directory: Path, ports: Mapping[str, int]) -> Path:
    """Write the ssh_config through which `ssh -F FILE NODE` reaches each node; its path."""
    directory = directory.resolve()
    hosts = "".join(
        f"Host {name}\n"
        "    HostName 127.0.0.1\n"
        f"    Port {port}\n"
        f"    HostKeyAlias {name}\n"
        "    User root\n"
        f'    IdentityFile "{directory / KEY}"\n'
        "    IdentitiesOnly yes\n"
        f'    UserKnownHostsFile "{directory / KNOWN_HOSTS}"\n'
        "    StrictHostKeyChecking accept-new\n"
        "    BatchMode yes\n"
        "    LogLevel ERROR\n"
        "    ConnectTimeout 60\n"
        "    ServerAliveInterval 15\n"
        "    ServerAliveCountMax 4\n" + _sharing(directory / f"{name}.ssh")
        for name, port in ports.items()
    )
    write_file(directory / CONFIG, hosts, mode=0o600)
    return directory / CONFIG


def _sharing(socket: Path) -> str:
    if len(os.fsencode(socket)) > _SOCKET_LIMIT:
        return ""
    return f'    ControlMaster auto\n    ControlPath "{socket}"\n    ControlPersist {PERSIST}\n'


def argv(directory: Path, node: str, command: Sequence[str] = ()) -> list[str]:
    """The command line for a login, or for one command there; the node's shell reads the command's words."""
    return ["ssh", "-F", str(directory.resolve() / CONFIG), *(() if command else ("-t",)), node, *command]


def hang_up(directory: Path, node: str) -> None:
    """Close the shared connection: to a node that lost its power it would hang until it times out."""
    if (directory / f"{node}.ssh").exists():
        run(["ssh", "-F", directory.resolve() / CONFIG, "-O", "exit", node], check=False)


def forget(directory: Path, node: str) -> None:
    """Forget the node's host key: another machine answers under its name from now on."""
    if (directory / KNOWN_HOSTS).exists():
        run(["ssh-keygen", "-q", "-R", node, "-f", directory / KNOWN_HOSTS])
