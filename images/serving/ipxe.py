"""The scripts that iPXE runs, in the words that Debian bookworm's iPXE (1.0.0+git-20190125) knows.

netX is the card that was booted from (ipxe.org/cfg); plain ${ip} and ${mac} may be of two different cards. What is not
set expands to nothing. A relative URL may hold no colon: what stands before it would be taken for a scheme.
"""

from __future__ import annotations

from config.machine import Machine
from images.installer import OPTIONS
from images.serving.options import Endpoint

SCRIPT = "boot.ipxe"
_ASK = f"""\
#!ipxe
chain --replace --autofree {SCRIPT}?mac=${{netX/mac:hexhyp}}&uuid=${{uuid}}&serial=${{serial:uristring}} || exit 1
"""


def ask() -> str:
    """The first script: the machine tells what it is, and gets the second one."""
    return _ASK


def machine(mac: str, uuid: str, serial: str) -> Machine:
    """The machine as its iPXE sees it."""
    return Machine({"boot": mac.lower().replace("-", ":")} if mac else {}, serial, uuid)


def install(http: Endpoint, tls: Endpoint, pin: str) -> str:
    """Boots the installer.

    On BIOS iPXE loads all initrds, one behind the other. On UEFI the kernel's own stub does, and in that order: those
    that its command line names, from the file system of downloaded files that iPXE shows it.
    """
    words = [
        "initrd=initrd.img initrd=installer.img",
        OPTIONS,
        f"xenpair.server=https://{tls} xenpair.pin={pin} xenpair.image=http://{http}/image",
        "xenpair.ip=${netX/ip}/${netX/netmask},${netX/gateway},${netX/mac}",
    ]
    return f"""\
#!ipxe
echo xenpair: the installer comes from {http}
kernel vmlinuz {" ".join(words)} || goto failed
initrd initrd.img || goto failed
initrd installer.img || goto failed
boot || goto failed
:failed
echo xenpair: the installer could not be loaded from {http}; trying again in 10 seconds
imgfree ||
sleep 10
chain --replace --autofree {SCRIPT} || exit 1
"""


def own_disk(reason: str) -> str:
    """Boots what the firmware boots next, and says why.

    UEFI goes on to its next boot entry only after an error: after a success it may show its menu (UEFI 2.10, 3.1.2).
    """
    return f"""\
#!ipxe
echo xenpair: {_plain(reason)}
echo xenpair: booting from this machine's own disk
sleep 3
iseq ${{platform}} efi && exit 1 ||
exit 0
"""


def _plain(text: str) -> str:
    """Words that iPXE's parser takes as they stand."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in " ./-,:;_") else " " for c in text)
    return " ".join(kept.split())
