"""A mirror of two fake disks: what mdadm, udev and the kernel make of their bytes."""

from __future__ import annotations

from collections.abc import Sequence

from tests.unit.fake_disk import END, MD_MAGIC, START, SUPERBLOCK, FakeDisk

DATA = START + (64 << 10)
"""Where the array's data begins on each disk."""
DEVICE = "md127"


class FakeMirror(FakeDisk):
    """The array, as a disk whose every write goes to one half after the other."""

    def __init__(self, halves: Sequence[FakeDisk]) -> None:
        self.halves = list(halves)
        self.active: list[FakeDisk] = []
        """Halves that the kernel has in the array now, be it started or not."""
        self.running = False
        super().__init__(halves[0].tick, f"/dev/{DEVICE}")
        # What is read is the first half's; put() writes to both.
        self.bytes = halves[0].bytes

    def put(self, at: int, data: bytes) -> None:
        for half in self.active:
            half.put(at, data)

    def entry(self) -> tuple[str, str] | None:
        return None

    def uuid(self) -> str:
        found = {half.array() for half in self.active}
        assert len(found) == 1
        return str(found.pop())

    def names(self) -> tuple[str, ...]:
        return (self.path, f"/dev/disk/by-id/md-uuid-{self.uuid()}") if self.running else ()

    def view(self, device: str) -> tuple[int, int]:
        assert device in (*self.names(), "/dev/drbd0"), f"there is no {device}"
        return DATA, END - (128 << 10 if device == "/dev/drbd0" else 0)

    def lower(self) -> str:
        return self.names()[1]

    def attach(self, *, agreed: bool) -> None:
        super().attach(agreed=agreed)
        for half in self.halves:
            half.attached, half.precious = True, agreed

    def holders(self, partition: str) -> tuple[str, ...]:
        """What is on a partition."""
        return (DEVICE,) if any(partition in half.names() for half in self.active) else ()

    def put_together(self, conf: str) -> None:
        """What udev and mdadm's last resort have done some time after a boot."""
        self.active = [half for half in self.halves if (uuid := half.array()) and f"UUID={uuid}" in conf]
        self.running = bool(self.active)

    def create(self, argv: Sequence[str]) -> None:
        """mdadm --create: one superblock after the other, then the array runs."""
        self.destroy("mdadm --create")
        assert not self.active, "mdadm --create on what is in an array"
        assert "--run" in argv, "mdadm asks"
        uuid = next(word.partition("=")[2] for word in argv if word.startswith("--uuid="))
        for half, partition in zip(self.halves, argv[-2:], strict=True):
            assert partition in half.names()
            half.put(START + SUPERBLOCK, MD_MAGIC + bytes(12) + uuid.encode())
        self.active, self.running = list(self.halves), True

    def stop(self) -> None:
        """mdadm --stop."""
        assert not self.attached, "mdadm --stop below DRBD"
        self.tick()
        self.active, self.running = [], False
