"""What changed in a tree, brought into the ext4 file system that was made of it before: requests to debugfs(8).

To fill a file system anew takes longer than all the rest of a small change. Nothing is mounted, and no root is needed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from config.door import run
from images.errors import BuildError

_TIMEOUT = 600.0


class Node(NamedTuple):
    """A file, directory or symbolic link as lstat(2) has it; times in nanoseconds since the epoch."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    inode: int
    links: int

    @classmethod
    def of(cls, found: os.stat_result) -> Node:
        """Of one path."""
        times = found.st_mtime_ns, found.st_ctime_ns
        return cls(found.st_mode, found.st_uid, found.st_gid, found.st_size, *times, found.st_ino, found.st_nlink)

    @property
    def is_directory(self) -> bool:
        """Whether it may hold others."""
        return stat.S_ISDIR(self.mode)


def snapshot(tree: Path) -> dict[str, Node]:
    """Path below tree ("" is tree itself) -> what is there, each directory before what it holds."""
    found = {"": Node.of(tree.lstat())}
    pending = [""]
    while pending:
        directory = pending.pop()
        with os.scandir(tree / directory) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{directory}/{entry.name}" if directory else entry.name
                found[path] = Node.of(entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
    return found


def requests(before: Mapping[str, Node], after: Mapping[str, Node], tree: Path, date: int) -> list[str]:
    """What makes of a file system with the tree before one with the tree after, in debugfs(8)'s language.

    No time is later than date (seconds since the epoch). Raises BuildError for what cannot be said in it.
    """
    changed = {path: node for path, node in after.items() if before.get(path) != node}
    gone = [path for path, node in before.items() if _must_go(node, after.get(path))]
    said = [_removal(path, before[path]) for path in reversed(gone)]
    for path, node in sorted(changed.items()):
        kept = path in before and path not in gone
        said += [*([] if kept else _creation(path, node, tree)), *_attributes(path, node, date)]
    return said


def apply(argv: Sequence[str], said: Sequence[str], script: Path, environment: Mapping[str, str]) -> None:
    """Have debugfs carry out requests, which it finds in script. Raises BuildError.

    argv: see images.disk.change_argv. SOURCE_DATE_EPOCH is what it takes for now (from e2fsprogs 1.47.1 on).
    """
    script.write_text("".join(f"{request}\n" for request in said))
    done = run(argv, timeout=_TIMEOUT, env=environment)
    # Behind its version, debugfs says there what went wrong; its exit code is 0 in any case.
    if faults := done.stderr.splitlines()[1:]:
        raise BuildError(f"debugfs could not bring the changes into the file system: {'; '.join(faults[:5])}")


def _must_go(old: Node, new: Node | None) -> bool:
    """Whether the old one has to make room: for nothing, or for one that differs in more than a directory's mode."""
    return new is None or (old != new and not (old.is_directory and new.is_directory))


def _removal(path: str, node: Node) -> str:
    return f"{'rmdir' if node.is_directory else 'rm'} {_quoted(path)}"


def _creation(path: str, node: Node, tree: Path) -> list[str]:
    # In the working directory: what debugfs takes for the parent of a path differs from request to request.
    directory, _, name = path.rpartition("/")
    if node.is_directory:
        made = f"mkdir {_word(name)}"
    elif stat.S_ISLNK(node.mode):
        target = os.readlink(tree / path)  # noqa: PTH115 - Path.readlink() would drop a slash at its end
        made = f"symlink {_word(name)} {_word(target)}"
    elif stat.S_ISREG(node.mode) and node.links == 1 and not os.listxattr(tree / path):
        made = f"write {_word(str(tree / path))} {_word(name)}"
    else:
        raise BuildError(f"{path}: only plain files, directories and symbolic links can be put upon the first layer")
    return [f"cd {_quoted(directory)}", made]


def _attributes(path: str, node: Node, date: int) -> Iterator[str]:
    mtime = min(node.mtime // 10**9, date)
    values = {"mode": f"0{node.mode:o}", "uid": node.uid, "gid": node.gid, "mtime": f"@{mtime}"}
    return (f"sif {_quoted(path)} {field} {value}" for field, value in values.items())


def _quoted(path: str) -> str:
    return _word(f"/{path}")


def _word(text: str) -> str:
    if '"' in text or "\n" in text:
        raise BuildError(f"a name with a quote or a line's end cannot be put upon the first layer: {text!r}")
    return f'"{text}"'
