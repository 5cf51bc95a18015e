"""A disk of a few MiB in memory, and the tools that read and write it, each in as many steps as a power cut can part.

Its bytes are what counts: lsblk, wipefs and drbdmeta say what the real ones say of such bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

MIB = 1 << 20
SIZE = 4 * MIB
START = MIB
END = SIZE - MIB
PATH = "/dev/vdb"
SERIAL = "data-xen1"

HEADER, BACKUP = 512, SIZE - 512
ENTRIES = (1024, SIZE - 33 * 512)
MAGIC = b"EFI PART"
METADATA = 4096
"""Bytes from the end of its partition at which DRBD's metadata block stands."""
SUPERBLOCK, MD_MAGIC = 4096, b"\xfc\x4e\x2b\xa9"
"""Where md's superblock of version 1.2 stands in its partition. The fake one holds the UUID as text."""
CLEAN, UNCLEAN = b"\x80", b"\x00"
JUST_CREATED, USED = 4, 0x6A0B8F2C1D3E4F50


class FakeDisk:
    """Bytes and what may happen to them. tick is called before each of the steps that a power cut can part."""

    def __init__(self, tick: Callable[[], None], path: str = PATH, serial: str = SERIAL) -> None:
        self.bytes = bytearray(SIZE)
        self.tick = tick
        self.path = path
        self.serial = serial
        self.attached = False
        self.made = False
        """Our partition has been made, so nothing may be erased any more."""
        self.precious = False
        """From now on nothing may be erased or made: the pair's data is on it."""

    def put(self, at: int, data: bytes) -> None:
        """One write that either happened or did not."""
        self.tick()
        self.bytes[at : at + len(data)] = data

    def destroy(self, what: str) -> None:
        assert not self.precious, f"{what} on a disk that carries the pair's data"
        assert not self.attached, f"{what} on a disk that DRBD is attached to"

    # What the tools see.

    def entry(self) -> tuple[str, str] | None:
        """PARTUUID and name of the partition, from whichever of the two tables is whole."""
        for header, at in zip((HEADER, BACKUP), ENTRIES, strict=True):
            if self.bytes[header : header + 8] == MAGIC and any(self.bytes[at : at + 128]):
                name = bytes(self.bytes[at + 56 : at + 128]).decode("utf-16-le").rstrip("\0")
                return str(uuid.UUID(bytes_le=bytes(self.bytes[at + 16 : at + 32]))), name
        return None

    def names(self) -> tuple[str, ...]:
        """All names of the disk and of what is on it."""
        entry = self.entry()
        return (self.path, f"{self.path}1", f"/dev/disk/by-partuuid/{entry[0]}") if entry else (self.path,)

    def view(self, device: str) -> tuple[int, int]:
        """Where a device begins and ends: the disk, its partition, or what DRBD makes of that."""
        if device == self.path:
            return 0, SIZE
        assert device in (*self.names(), "/dev/drbd0"), f"there is no {device}"
        return START, END - (128 << 10 if device == "/dev/drbd0" else 0)

    def signatures(self, device: str) -> dict[str, int]:
        """Kind and offset of each signature, by the places where libblkid looks."""
        start, end = self.view(device)
        size = end - start
        table = (("gpt", 512, MAGIC), ("gpt_backup", size - 512, MAGIC), ("PMBR", 510, b"\x55\xaa"))
        known = (
            ("ext4", 1080, b"\x53\xef"),
            ("LVM2_member", 536, b"LVM2 001"),
            ("linux_raid_member", SUPERBLOCK, MD_MAGIC),
            ("drbd", size - METADATA + 60, b"\x83\x74\x02\x6b"),
        )
        looked_for = (*table, *known) if device == self.path else known
        return {kind: at for kind, at, magic in looked_for if self.bytes[start + at : start + at + len(magic)] == magic}

    def row(self) -> dict[str, object]:
        """The disk in lsblk's JSON."""
        entry = self.entry()
        part = {"path": f"{self.path}1", "type": "part", "size": END - START, "ro": False, "rm": False}
        array = self.array()
        if array is not None:
            part |= {"fstype": "linux_raid_member", "uuid": str(uuid.UUID(array.replace(":", "")))}
        children = [] if entry is None else [{**part, "partuuid": entry[0], "partlabel": entry[1]}]
        disk = {"path": self.path, "type": "disk", "size": SIZE, "ro": False, "rm": False, "serial": self.serial}
        return {**disk, "children": children}

    def array(self) -> str | None:
        """UUID of the array that the partition is half of, in md's writing; None where it has no superblock."""
        at = START + SUPERBLOCK
        if self.entry() is None or self.bytes[at : at + 4] != MD_MAGIC:
            return None
        return self.bytes[at + 16 : at + 16 + 35].decode()

    def wipefs(self, device: str) -> str:
        name = device.rpartition("/")[2]
        found = self.signatures(device).items()
        rows = [{"device": name, "offset": hex(at), "type": kind.partition("_backup")[0]} for kind, at in found]
        return json.dumps({"signatures": rows}) if rows else ""

    # What the tools do.

    def erase(self, device: str) -> None:
        """wipefs --all."""
        assert not self.made
        self.destroy(f"wipefs --all {device}")
        start, _ = self.view(device)
        for at in self.signatures(device).values():
            self.put(start + at, bytes(2))

    def zero(self, at: int, length: int) -> None:
        """blkdiscard --zeroout."""
        assert not self.made
        self.destroy("blkdiscard")
        self.put(at, bytes(length // 2))
        self.put(at + length // 2, bytes(length // 2))

    def partition(self, partuuid: str, name: str) -> None:
        """sfdisk, in the order in which a GPT is to be written (UEFI specification): backup first."""
        self.destroy("sfdisk")
        self.made = True
        entry = bytes(16) + uuid.UUID(partuuid).bytes_le + bytes(24) + name.encode("utf-16-le").ljust(72, b"\0")
        self.put(ENTRIES[1], entry)
        self.put(BACKUP, MAGIC)
        self.put(ENTRIES[0], entry)
        self.put(HEADER, MAGIC)
        self.put(510, b"\x55\xaa")

    def create_md(self, device: str) -> None:
        """drbdmeta create-md: activity log and bitmap first, the block that is known by its magic last."""
        self.destroy("drbdmeta create-md")
        _, end = self.view(device)
        self.put(end - (36 << 10), b"\x69\xcb\x65\xa2")
        self._write_md(end, JUST_CREATED, CLEAN)

    def dump_md(self, device: str, *, force: bool = False) -> tuple[int, str, str]:
        """drbdmeta dump-md: exit code, output, errors."""
        if self.attached:
            return 20, "Operation canceled.\n", f"open({device}) failed: Device or resource busy\n"
        _, end = self.view(device)
        block = self.bytes[end - METADATA : end]
        if block[60:64] != b"\x83\x74\x02\x6b":
            return 255, "", "No valid meta data found\n"
        if block[59:60] != CLEAN and not force:
            return 1, "", 'Found meta data is "unclean", please apply-al first\n'
        return 0, f'version "v08";\nuuid {{\n    0x{block[:8].hex().upper()}; }}\nla-size-sect 0;\n', ""

    def lower(self) -> str:
        """What DRBD is attached to."""
        return f"{self.path}1"

    def attach(self, *, agreed: bool) -> None:
        """The kernel attaches it; agreed: both sides have been declared equal, or synced, so it holds a generation."""
        assert "drbd" in self.signatures(self.lower()), "there is no metadata"
        self.attached = True
        self._write_md(END, USED if agreed else JUST_CREATED, UNCLEAN)
        self.precious = agreed

    def _write_md(self, end: int, current: int, clean: bytes) -> None:
        flags = bytes(3) + clean
        self.put(end - METADATA, current.to_bytes(8, "big") + bytes(48) + flags + b"\x83\x74\x02\x6b")
