"""What an empty server is installed from, as QEMU's command line has it: a stick, a disc, or its network card. Pure."""

from __future__ import annotations

from typing import Literal

Via = Literal["usb", "cd", "pxe"]
Firmware = Literal["bios", "uefi"]

MEDIUM = "medium.iso"
"""File name of the lab's own ISO."""


def boot_order(via: Via | None, firmware: Firmware) -> tuple[int, int, int]:
    """Boot indices of the system disk, of its mirror, and of the medium.

    An installed system boots though the medium is still there, also from the second disk where the first is blank.

    A BIOS has one list of hard disks, a stick among them, and boots the first one only: there the stick has to be that,
    and its GRUB boots what is installed.
    """
    return (1, 2, 0) if (via, firmware) == ("usb", "bios") else (0, 1, 2)


def argv(via: Via, firmware: Firmware) -> list[str]:
    """The medium itself; nothing where it is the network."""
    order = f"bootindex={boot_order(via, firmware)[2]}"
    drive = f"if=none,id=medium,format=raw,readonly=on,file={MEDIUM}"
    match via:
        case "usb":
            stick = f"usb-storage,id=disk-medium,bus=xhci.0,drive=medium,removable=on,{order}"
            return ["-drive", drive, "-device", "qemu-xhci,id=xhci", "-device", stick]
        case "cd":
            return ["-drive", f"{drive},media=cdrom", "-device", f"ide-cd,id=disk-medium,drive=medium,{order}"]
        case "pxe":
            return []


def card(via: Via | None, firmware: Firmware) -> str:
    """What the guest card is given: to boot from, QEMU's iPXE on BIOS, and OVMF's own driver on UEFI."""
    if via != "pxe":
        return "romfile="
    order = f"bootindex={boot_order(via, firmware)[2]}"
    return order if firmware == "bios" else f"romfile=,{order}"
