"""What has to be told that a file of xenpair's has another content, once the pair is formed. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from config.sizes import format_size

RELOADS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("etc/systemd/system/*", ("systemctl", "daemon-reload")),
    ("etc/systemd/network/*.network", ("networkctl", "reload")),
    ("etc/nftables.conf", ("nft", "-f", "/etc/nftables.conf")),
    ("etc/ssh/*", ("systemctl", "reload", "ssh.service")),
)
"""Which files, and what takes them up without harm to anything that runs."""
AT_BOOT = "etc/systemd/network/*.netdev"
"""networkd makes a device once, and never changes it (networkctl(1), reload)."""
GRUB = "etc/default/grub.d/00-xenpair.cfg"
"""Holds Xen's command line; update-grub reads it. The image brings it."""

_DOM0_MEMORY = re.compile(r"dom0_mem=\S+,max:[0-9]+[KMGT]\b")


def reloads(files: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The programs that take up these files, each once."""
    return tuple(argv for pattern, argv in RELOADS if any(fnmatchcase(file, pattern) for file in files))


def restart_reason(files: Sequence[str], read_at_start: Collection[str]) -> str:
    """Why the cluster stack has to be restarted, or empty. read_at_start: those of its files that it reads then."""
    changed = [f"/{file}" for file in files if file in read_at_start]
    return f"the cluster stack reads {' and '.join(changed)} when it starts" if changed else ""


def reboot_reason(files: Sequence[str], memory: int) -> str:
    """Why the node has to be rebooted, or empty. memory: bytes that dom0 is to have."""
    reasons = []
    if GRUB in files:
        reasons.append(f"Xen gives dom0 its memory ({format_size(memory)}) at boot")
    if devices := [f"/{file}" for file in files if fnmatchcase(file, AT_BOOT)]:
        reasons.append(f"networkd reads {' and '.join(devices)} at boot")
    return ", and ".join(reasons)


def sets_dom0_memory(grub: str) -> bool:
    """Whether GRUB's settings say how much memory dom0 gets, as the image has it."""
    return _DOM0_MEMORY.search(grub) is not None


def with_dom0_memory(grub: str, memory: int) -> str:
    """GRUB's settings with that much memory for dom0 (bytes); as they are where they say nothing of it."""
    size = format_size(memory)
    return _DOM0_MEMORY.sub(f"dom0_mem={size},max:{size}", grub)
