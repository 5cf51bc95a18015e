"""Inside the namespace: what differs between two artifacts, down to the file within.

With diffoscope on the host, what it says of each such file comes on top.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from config.door import SYSTEM_PATH, run
from images import disk
from images.jobs import DifferenceJob, Result

_TIMEOUT = 1800.0
_CHUNK = 1 << 20
_EXPLAINED = 10
"""Files that diffoscope is asked about: it takes seconds for each."""
_WIDTH = 40
"""Lines of its answer that are kept for each."""


def make_difference(job: DifferenceJob) -> Result:
    """Write to job.report what differs, a line for each file."""
    one, other, directory = Path(job.one), Path(job.other), Path(job.directory)
    directory.mkdir()
    trees = directory / "one", directory / "other"
    lines = [f"the first difference is at {first_difference(one, other)}"]
    if all(_unpack(artifact, tree) for artifact, tree in zip((one, other), trees, strict=True)):
        found = dict(tree_differences(*trees))
        lines += [f"/{name}: {what}" for name, what in found.items()]
        pairs = [(trees[0] / name, trees[1] / name) for name, what in found.items() if "content" in what]
    else:
        pairs = [(one, other)]
    lines += [line for pair in pairs[:_EXPLAINED] for line in _diffoscope(*pair)]
    Path(job.report).write_text("".join(f"{line}\n" for line in lines))
    return Result()


def first_difference(one: Path, other: Path) -> str:
    """Where two files first differ, in words; empty where they do not."""
    with one.open("rb") as first, other.open("rb") as second:
        at = 0
        while True:
            mine, theirs = first.read(_CHUNK), second.read(_CHUNK)
            if mine != theirs:
                pairs = zip(mine, theirs, strict=False)
                at += next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(mine), len(theirs)))
                return f"byte {at}" + (_partition(at) if one.suffix == ".raw" else "")
            if not mine:
                return ""
            at += len(mine)


def _partition(at: int) -> str:
    found = (part for part in disk.PARTITIONS if part.start <= at < part.start + part.size)
    return next((f", in the partition {part.name}" for part in found), ", in the partition table")


def tree_differences(one: Path, other: Path) -> Iterator[tuple[str, str]]:
    """(path, what differs) for everything below two directories that is not the same in both."""
    names = sorted({str(path.relative_to(root)) for root in (one, other) for path in root.rglob("*")})
    for name in names:
        mine, theirs = one / name, other / name
        if not os.path.lexists(mine) or not os.path.lexists(theirs):
            yield name, f"only in the {'first' if os.path.lexists(mine) else 'second'}"
        elif different := _what_differs(mine, theirs):
            yield name, ", ".join(different)


def _what_differs(mine: Path, theirs: Path) -> list[str]:
    one, other = mine.lstat(), theirs.lstat()
    facts = {
        "mode": one.st_mode != other.st_mode,
        "owner": (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid),
        # debugfs gives no symbolic link that it writes out the time that it has in the image.
        "time": not mine.is_symlink() and int(one.st_mtime) != int(other.st_mtime),
        "content": not _same_content(mine, theirs),
    }
    return [what for what, differs in facts.items() if differs]


def _same_content(mine: Path, theirs: Path) -> bool:
    if mine.is_symlink() and theirs.is_symlink():
        return mine.readlink() == theirs.readlink()
    if mine.is_file() and theirs.is_file():
        return filecmp.cmp(mine, theirs, shallow=False)
    return True


def _unpack(artifact: Path, tree: Path) -> bool:
    """Unpack an artifact; False for one that we do not look into."""
    tree.mkdir()
    match artifact.suffix:
        case ".deb":
            run(["dpkg-deb", "--raw-extract", artifact, tree], timeout=_TIMEOUT)
        case ".raw":
            _dump(artifact, tree)
        case ".qcow2":
            raw = tree.with_suffix(".raw")
            run(["qemu-img", "convert", "-O", "raw", artifact, raw], timeout=_TIMEOUT)
            _dump(raw, tree)
        case _:
            return False
    return True


def _dump(raw: Path, tree: Path) -> None:
    """The root file system of a disk, and its ESP."""
    root, esp = tree / "root", tree / "esp"
    root.mkdir()
    esp.mkdir()
    run(["debugfs", "-R", f'rdump / "{root}"', disk.root_at(raw)], timeout=_TIMEOUT)
    run(["mcopy", "-s", "-m", "-i", f"{raw}@@{disk.ESP.start}", "::*", esp])
    for ours in (root, esp):
        os.utime(ours, (0, 0))


def _diffoscope(one: Path, other: Path) -> list[str]:
    if shutil.which("diffoscope", path=SYSTEM_PATH) is None:
        return []
    told = run(["diffoscope", "--text", "-", one, other], check=False, timeout=_TIMEOUT).stdout.splitlines()
    return [f"  {line}" for line in told[:_WIDTH]]
