"""How fast an installation can be at most on this machine: the same unpacked and written by zstd and dd alone."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from config.door import kill_group, run, stream
from config.payload import Index
from firstboot.errors import ImageError
from firstboot.installer.source import Stream
from firstboot.installer.target import Target
from firstboot.installer.teller import Teller

BLOCK = 4 << 20
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def measure(index: Index, image: Stream, device: Path, target: Target, teller: Teller) -> float:
    """Say how many seconds each takes, on a disk that may be written to already; return those of all of it."""
    begun = time.monotonic()
    unpacking, summing = _unpack(image)
    at, length = _place(index, target.size)
    writing = _write(device, at, length)
    # What comes after finds the disk and the memory as they were before.
    target.zero(at, length)
    target.flush()
    DROP_CACHES.write_text("3\n")
    for what, seconds in (
        ("unpack", unpacking),
        ("dd", writing),
        ("together", unpacking + writing),
        ("beside it, sha256 of the packed image", summing),
    ):
        teller.note(f"floor: {what} {seconds:.2f}")
    return time.monotonic() - begun


def _unpack(image: Stream) -> tuple[float, float]:
    """Seconds for that; and, which the floor leaves out, for the sum of what is unpacked."""
    begun, summing, digest = time.monotonic(), 0.0, hashlib.sha256()
    process = stream(["zstd", "-dqf", "-o", "/dev/null"], talk=True)
    try:
        if process.stdin is not None:
            buffer = memoryview(bytearray(BLOCK))
            while count := image.readinto(buffer):
                part = buffer[:count]
                summing -= time.monotonic()
                digest.update(part)
                summing += time.monotonic()
                while part:
                    part = part[os.write(process.stdin.fileno(), part) :]
            process.stdin.close()
        if process.wait() != 0:
            raise ImageError("the image cannot be unpacked, so there is no floor to measure")
    finally:
        kill_group(process)
        image.close()
    return time.monotonic() - begun - summing, summing


def _place(index: Index, size: int) -> tuple[int, int]:
    """Behind the image, where nothing has been written yet, or else where it will be; whole blocks."""
    length = -(-index.written_size // BLOCK) * BLOCK
    behind = -(-index.disk_size // BLOCK) * BLOCK
    at = behind if behind + length <= size else BLOCK
    return at, min(length, (size - at) // BLOCK * BLOCK)


def _write(device: Path, at: int, length: int) -> float:
    begun = time.monotonic()
    blocks = [f"bs={BLOCK}", f"seek={at // BLOCK}", f"count={length // BLOCK}"]
    run(["dd", "if=/dev/zero", f"of={device}", *blocks, "oflag=direct", "conv=nocreat,notrunc,fdatasync"], timeout=None)
    return time.monotonic() - begun
