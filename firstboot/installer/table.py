"""The partition table of the image, made to fit a larger disk: worked out in a file, of which the ends are taken."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from config.door import run
from config.payload import EDGE
from firstboot.errors import ImageError
from firstboot.plan.mirror import table_of_half
from firstboot.plan.system_disk import SECTOR


@dataclass(frozen=True)
class Table:
    """The first and the last MiB of a disk; bytes of its root partition, and what that is known by."""

    first: bytes
    last: bytes
    root_size: int
    root_partuuid: str


def fitted(head: bytes, root_start: int, size: int, scratch: Path, *, half: str = "") -> Table:
    """The table of a disk of that size (bytes), whose last partition, root, reaches to its end.

    head: the first MiB of the image; scratch: a directory on a file system that can have holes. half: serial of the
    disk, where it is half of a mirror. Raises ImageError where the table in head does not end with a partition at
    root_start.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="table-") as directory:
        disk = Path(directory) / "disk"
        disk.write_bytes(head)
        os.truncate(disk, size)
        script = grown(run(["sfdisk", "--dump", disk]).stdout, root_start)
        script = table_of_half(script, half) if half else script
        run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", disk], stdin=script)
        root = run(["sfdisk", "--dump", disk]).stdout.splitlines()[-1]
        with disk.open("rb") as f:
            first = f.read(EDGE)
            f.seek(size - EDGE)
            return Table(first, f.read(EDGE), int(_value(root, "size")) * SECTOR, _value(root, "uuid").lower())


def _value(row: str, key: str) -> str:
    match = re.search(rf"\b{key}= *([^,\s]+)", row)
    if match is None:
        raise ImageError(f"sfdisk printed a partition without {key}: {row!r}")
    return match[1]


def grown(dump: str, root_start: int) -> str:
    """A script for sfdisk(8) out of its dump: the same table, the last partition as large as the disk allows."""
    lines = [line for line in dump.splitlines() if not line.startswith(("last-lba:", "device:"))]
    starts = {int(match[1]) * SECTOR: i for i, line in enumerate(lines) if (match := re.search(r"start= *(\d+)", line))}
    if not starts or max(starts) != root_start:
        raise ImageError(
            f"the image's partitions begin at {', '.join(map(str, sorted(starts))) or 'no'} bytes, and its index says "
            f"that the last one begins at {root_start}",
            hint="index and image are not of one build: build the image again",
        )
    number = starts[root_start]
    lines[number] = re.sub(r"size= *\d+, ", "", lines[number])
    return "\n".join(lines) + "\n"
