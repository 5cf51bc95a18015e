"""A guest's system installed by xen-tools: xen-create-image(8) with debootstrap, onto the volume that we have made.

What it would ask, make or note by itself is switched off: the volume, its file system, swap, the root password, and
/etc/hosts of the dom0. Its configuration file for xl is thrown away, since ours is written at each start.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from config.door import Output, run
from firstboot.errors import GuestError
from firstboot.guests.definition import Definition
from firstboot.guests.rootfs import INTERFACES, Tree
from firstboot.places import Places

PROGRAM = "xen-create-image"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Of the package debian-archive-keyring. Without it debootstrap would verify nothing, and say so in its log alone."""
STATUS = "var/lib/dpkg/status"
WHOLE = ("installed", "config-files", "not-installed")
"""States of dpkg(1) in which nothing is left to be done."""
SOURCES = "etc/apt/sources.list.d/debian.sources"
LIMIT = 2 * 3600.0
"""Seconds; a whole Debian over a slow line takes most of one hour."""
DONE = "Installation Summary"
"""What it prints last of all where all went well; its exit code is 0 also where an option is wrong."""

_WITH_OWN_TMP = 'mount --bind "$1" /tmp && shift && exec "$@"'
UNSHARED = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _WITH_OWN_TMP, "sh")
"""Runs a command that has a directory of ours for its /tmp, and whose mounts end with it. By TMPDIR it would tell the
programs inside of the guest's root file system too, where there is no such directory."""

LOOPBACK = "auto lo\niface lo inet loopback\n\nsource /etc/network/interfaces.d/*\n"
MENU = """\
set timeout=2
menuentry 'Debian' {
	linux /vmlinuz root=/dev/xvda ro console=hvc0
	initrd /initrd.img
}
"""
"""For the GRUB that starts a guest by its own kernel: Debian keeps these two links on the newest one."""


def mirror(places: Places) -> str:
    """The mirror that this node's own apt uses. Raises GuestError where it has none."""
    try:
        found = re.search(r"^URIs: *(\S+)", places.at(SOURCES).read_text(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    if found is None:
        raise GuestError(f"this node's apt has no mirror in /{SOURCES}", hint="name one: mirror")
    return found[1]


def check() -> None:
    """Raises GuestError where xen-tools is not on this node."""
    if shutil.which(PROGRAM) is None:
        raise GuestError(
            "xen-tools is not on this node",
            hint="build the image with debian.packages: [xen-tools] and debian.backports, as docs/guests.md says",
        )


def argv(definition: Definition, device: Path, suite: str, mirror: str) -> list[str]:
    """xen-create-image for a volume with an empty file system; what it writes for xl goes to /tmp."""
    return [
        PROGRAM,
        f"--hostname={definition.name}",
        f"--image-dev={device}",
        "--dontformat",
        "--fs=ext4",
        "--noswap",
        f"--dist={suite}",
        "--install-method=debootstrap",
        f"--keyring={KEYRING}",
        f"--mirror={mirror}",
        # No password at all: the shadow file then has a `*`, and the administrators' keys let them in.
        "--genpass=0",
        "--nopasswd",
        "--nohosts",
        "--dhcp",
        f"--mac={definition.mac}",
        f"--memory={-(-definition.memory >> 20)}M",
        "--output=/tmp",
        "--force",
    ]


def install(definition: Definition, device: Path, suite: str, mirror: str, scratch: Path) -> None:
    """Run it. scratch: a directory of the caller's, in which it mounts the volume.

    Raises GuestError with what its log ended with, CommandError where it does not end.
    """
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.defpath + ":/usr/sbin:/sbin"}
    command = [*UNSHARED, str(scratch), *argv(definition, device, suite, mirror)]
    done = run(command, check=False, timeout=LIMIT, env=environment)
    if done.returncode != 0 or DONE not in done.stdout:
        raise trouble(definition.name, done)


def unfinished(status: str) -> list[str]:
    """Of dpkg's record, the packages that are neither installed nor removed, with what they are."""
    found = re.findall(r"^Package: (\S+)\nStatus: \S+ \S+ (\S+)$", status, re.MULTILINE)
    return [f"{name} is {state}" for name, state in found if state not in WHOLE]


def trouble(name: str, done: Output) -> GuestError:
    """What it said last."""
    said: Sequence[str] = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return GuestError(
        f"xen-tools could not install {name}: {'; '.join(said[-4:]) or 'it does not say why'}",
        hint=f"/var/log/xen-tools/{name}.log has all that it did",
    )


def prepare(tree: Tree) -> None:
    """Take out what xen-tools has written and we write otherwise, before the system is made that guest's own.

    Raises GuestError where a package of the system is not configured: xen-tools goes on over that.
    """
    if left := unfinished(tree.read(STATUS)):
        raise GuestError(
            f"the system that xen-tools installed is not whole: {', '.join(left)}",
            hint="the end of its log in /var/log/xen-tools has the reason; try again, or another mirror",
        )
    tree.write(INTERFACES, LOOPBACK)
    if not tree.exists("boot/grub/grub.cfg"):
        tree.write("boot/grub/grub.cfg", MENU)
