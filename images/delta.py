"""What changed in a tree, to be brought into the ext4 file system that was made of it before: requests to debugfs(8).

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


def changed(before: Mapping[str, Node], after: Mapping[str, Node]) -> dict[str, Node]:
    """What is there afterwards, and was not, or was another."""
    return {path: node for path, node in after.items() if before.get(path) != node}


def requests(before: Mapping[str, Node], after: Mapping[str, Node], tree: Path, files: str, date: int) -> list[str]:
    """What makes of a file system with the tree before one with the tree after, in debugfs(8)'s language.

    files: the directory in which debugfs finds the contents. No time is later than date (seconds since the epoch).
    Raises BuildError for what cannot be said in it.
    """
    gone = {path: node for path, node in before.items() if _must_go(node, after.get(path))}
    said = [_removal(path, directory=node.is_directory) for path, node in reversed(gone.items())]
    for path, node in sorted(changed(before, after).items()):
        if path not in before or path in gone:
            said += _creation(path, node, tree, files)
        said += _attributes(path, node.mode, node.uid, node.gid, min(node.mtime // 10**9, date))
    return said


def replacement(path: str, source: Path, mode: int, date: int) -> list[str]:
    """What puts a file of root's in the place of one that is there."""
    return [_removal(path), *_writing(path, str(source)), *_attributes(path, stat.S_IFREG | mode, 0, 0, date)]


def apply(argv: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
    """Have debugfs carry out requests (argv: see images.disk.change_argv) in a directory. Raises BuildError.

    SOURCE_DATE_EPOCH in environment is what it takes for now (from e2fsprogs 1.47.1 on).
    """
    done = run(argv, timeout=_TIMEOUT, cwd=directory, env=environment)
    # Behind its version, debugfs says there what went wrong; its exit code is 0 in any case.
    if faults := done.stderr.splitlines()[1:]:
        raise BuildError(f"debugfs could not bring the changes into the file system: {'; '.join(faults[:5])}")


def _must_go(old: Node, new: Node | None) -> bool:
    """Whether the old one has to make room: for nothing, or for one that differs in more than a directory's mode."""
    return new is None or (old != new and not (old.is_directory and new.is_directory))


def _removal(path: str, *, directory: bool = False) -> str:
    return f"{'rmdir' if directory else 'rm'} {_quoted(path)}"


def _creation(path: str, node: Node, tree: Path, files: str) -> list[str]:
    directory, _, name = path.rpartition("/")
    if node.is_directory:
        return [_go(directory), f"mkdir {_word(name)}"]
    if stat.S_ISLNK(node.mode):
        target = os.readlink(tree / path)  # noqa: PTH115 - Path.readlink() would drop a slash at its end
        return [_go(directory), f"symlink {_word(name)} {_word(target)}"]
    if stat.S_ISREG(node.mode) and node.links == 1 and not os.listxattr(tree / path):
        return _writing(path, f"{files}/{path}")
    raise BuildError(f"{path}: only plain files, directories and symbolic links can be put upon the first layer")


def _writing(path: str, source: str) -> list[str]:
    directory, _, name = path.rpartition("/")
    return [_go(directory), f"write {_word(source)} {_word(name)}"]


def _go(directory: str) -> str:
    """Since what debugfs takes for the parent of a path differs from request to request, names are used there."""
    return f"cd {_quoted(directory)}"


def _attributes(path: str, mode: int, uid: int, gid: int, mtime: int) -> Iterator[str]:
    values = {"mode": f"0{mode:o}", "uid": uid, "gid": gid, "mtime": f"@{mtime}"}
    return (f"sif {_quoted(path)} {field} {value}" for field, value in values.items())


def _quoted(path: str) -> str:
    return _word(f"/{path}")


def _word(text: str) -> str:
    if '"' in text or "\n" in text:
        raise BuildError(f"a name with a quote or a line's end cannot be put upon the first layer: {text!r}")
    return f'"{text}"'
