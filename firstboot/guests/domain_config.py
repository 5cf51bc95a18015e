"""A guest's configuration for xl, xl.cfg(5), written from its definition. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface
from uuid import UUID, uuid5

from firstboot.errors import GuestError
from firstboot.guests.definition import Definition

MIB = 1 << 20

NAMESPACE = UUID("5a795a64-8e00-4f23-af17-fc533a196ff7")
"""Of the guests' UUIDs: drawn once, so that a guest has the same one at each start and on each node."""

GRUB = {"pv": "/usr/lib/grub-xen/grub-x86_64-xen.bin", "pvh": "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"}
"""Debian's package grub-xen-host: a GRUB that a domain boots as its kernel, and that reads the guest's own grub.cfg."""

EVENTS = ("on_poweroff", "on_reboot", "on_crash", "on_watchdog", "on_soft_reset")
REPLACING = frozenset({"bootloader", "builder", "extra", "maxmem", "root"})
"""Settings that would take back one of ours under another name."""

_KEY = re.compile(r"[a-z][_0-9a-z]*")
_TEXT = r"\"[^\"\\]*\"|'[^'\\]*'"
_ITEM = rf"(?:{_TEXT}|[0-9][0-9a-fx]*)"
_LIST = re.compile(rf"\[\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*,?\s*)?\]")
"""Keys, texts, numbers and lists as in tools/libs/util/libxlu_cfg_l.l and libxlu_cfg_y.y, without lists in lists."""


def xl_config(definition: Definition, volume_group: str, release: str) -> str:
    """The text of its file. release: of this dom0's kernel (`uname -r`), which a guest without one of its own boots.

    Raises GuestError for a definition that cannot be written as such a file.
    """
    disk = f"format=raw, vdev=xvda, access=w, backendtype=phy, target=/dev/{volume_group}/{definition.name}"
    settings = {
        "name": quoted(definition.name),
        "uuid": quoted(str(domain_uuid(definition.name))),
        "type": quoted(definition.kind),
        "memory": str(-(-definition.memory // MIB)),
        "vcpus": str(definition.vcpus),
        "disk": f"[ {quoted(disk)} ]",
        "vif": f"[ {quoted(f'mac={definition.mac}, bridge={definition.bridge}')} ]",
        **{key: quoted(value) for key, value in _boot(definition, release).items()},
        # Only the supervisor decides what becomes of a guest that has ended, and the peer's may be the one that does.
        **dict.fromkeys(EVENTS, quoted("preserve")),
    }
    for key, text in definition.options:
        if key in settings or key in REPLACING:
            raise GuestError(f"option {key} of {definition.name}: xenpair sets that itself")
        if not _KEY.fullmatch(key):
            raise GuestError(f"option {key!r} of {definition.name} is no setting of xl.cfg")
        settings[key] = _value(text)
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def domain_uuid(name: str) -> UUID:
    """The UUID of a guest's domain, wherever it runs."""
    return uuid5(NAMESPACE, name)


def kernel_line(definition: Definition) -> str:
    """The kernel's command line, where the kernel comes from the nodes."""
    words = ["root=/dev/xvda", "ro", "console=hvc0"]
    if definition.address != "dhcp":
        words.append(_static_address(definition))
    return " ".join([*words, definition.arguments]).strip()


def _static_address(definition: Definition) -> str:
    # client:server:gateway:netmask:hostname:device:autoconf, Documentation/admin-guide/nfs/nfsroot.rst of Linux.
    interface = IPv4Interface(definition.address)
    return f"ip={interface.ip}::{definition.gateway}:{interface.netmask}:{definition.name}:eth0:off"


def _boot(definition: Definition, release: str) -> dict[str, str]:
    if definition.boot == "guest":
        return {"kernel": GRUB[definition.kind]}
    files = {"kernel": definition.kernel or f"/boot/vmlinuz-{release}"}
    # dom0's own ramdisk holds the modules of dom0's own kernel, and of no other.
    if ramdisk := definition.ramdisk or ("" if definition.kernel else f"/boot/initrd.img-{release}"):
        files["ramdisk"] = ramdisk
    return {**files, "cmdline": kernel_line(definition)}


def _value(text: str) -> str:
    """A list of texts and numbers stays a list; all else becomes a text.

    To xl a number in quotes is a number (xlu_cfg_get_long in tools/libs/util/libxlu_cfg.c reads the text).
    """
    return text if _LIST.fullmatch(text) and text.isprintable() else quoted(text)


def quoted(text: str) -> str:
    """As a text in double quotes. Raises GuestError for control characters, which xl's lexer does not read back."""
    if not text.isprintable():
        raise GuestError(f"{text!r} holds a control character, which no setting of a guest may have")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
