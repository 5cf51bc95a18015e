"""An ext4 file system inside a raw image, read by debugfs(8): nothing is mounted, and no root is needed."""

from __future__ import annotations

import hashlib
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from config.door import PIECE, kill_group, run, stream
from images.errors import InspectError

_TIMEOUT = 600.0
_ECHO = "debugfs: "
"""Before each request of a script that debugfs repeats in its output."""
_ROW = re.compile(r"/(\d+)/(\d+)/(\d+)/(\d+)/([^/]*)/(\d*)/")
"""Of `ls -p`: inode, mode, owner, group, name, size (none of a directory)."""
_FAST_LINK = re.compile(r'^Fast link dest: "(.*)"$', re.MULTILINE)
_ROOT_INODE = 2


@dataclass(frozen=True)
class Entry:
    """What a directory says of one name. mode as in st_mode; size in bytes, 0 of a directory."""

    inode: int
    mode: int
    owner: int
    group: int
    size: int


class FileSystem:
    """The file system that begins at that byte of a raw image. The image's path may hold no question mark."""

    def __init__(self, raw: Path, start: int) -> None:
        self._image = f"{raw.absolute()}?offset={start}"

    def text(self, path: str) -> str | None:
        """Content of a file, which symbolic links are not; None where there is none. Raises InspectError."""
        done = run(["debugfs", "-R", f'cat "{path}"', self._image], timeout=_TIMEOUT)
        if "Filesystem not open" in done.stderr:
            raise InspectError(f"debugfs cannot read the file system: {done.stderr.splitlines()[1]}")
        # Behind its version, debugfs says there what went wrong.
        return done.stdout if len(done.stderr.splitlines()) == 1 else None

    def walk(self, top: str = "") -> dict[str, Entry]:
        """Path -> entry of everything below an absolute path without a slash at its end; empty where there is none."""
        found: dict[str, Entry] = {}
        level = {f'"{top}"' if top else f"<{_ROOT_INODE}>": top}
        while level:
            below = {}
            for directory, said in zip(level.values(), self._ask("ls -p", level), strict=True):
                for inode, mode, owner, group, name, size in _ROW.findall(said):
                    if name not in (".", "..") and inode != "0":
                        entry = Entry(int(inode), int(mode, 8), int(owner), int(group), int(size or 0))
                        found[f"{directory}/{name}"] = entry
                        if stat.S_ISDIR(entry.mode):
                            below[f"<{inode}>"] = f"{directory}/{name}"
            level = below
        return found

    def links(self, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Path -> target of the symbolic links among these that have it in their inode, as all up to 59 bytes do."""
        links = {path: f"<{entry.inode}>" for path, entry in entries.items() if stat.S_ISLNK(entry.mode)}
        answers = zip(links, self._ask("stat", links.values()), strict=True)
        return {path: match[1] for path, said in answers if (match := _FAST_LINK.search(said))}

    def digests(self, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Path -> sha256 (hex) of each file's content, and of each symbolic link's target."""
        found = {path: hashlib.sha256(target.encode()).hexdigest() for path, target in self.links(entries).items()}
        wanted = {
            path: entry
            for path, entry in entries.items()
            if path not in found and (stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode))
        }
        with ExitStack() as stack:
            requests = stack.enter_context(_script(f"cat <{entry.inode}>" for entry in wanted.values()))
            process = stream(["debugfs", "-f", requests, self._image])
            stack.callback(kill_group, process)
            assert process.stdout is not None  # noqa: S101 - a pipe, by stream()
            for path, entry in wanted.items():
                if process.stdout.readline() != f"{_ECHO}cat <{entry.inode}>\n".encode():
                    raise InspectError(f"debugfs cannot read the file before {path}: the file system is damaged")
                found[path] = _digest(process.stdout, entry.size)
        return found

    def _ask(self, request: str, arguments: Iterable[str]) -> list[str]:
        """What debugfs says to the same request about each of these, in their order."""
        requests = [f"{request} {argument}" for argument in arguments]
        with _script(requests) as script:
            argv = ["debugfs", "-f", script, self._image]
            said = run(argv, timeout=_TIMEOUT, env={"DEBUGFS_PAGER": "__none__"}).stdout
        answers = re.split(rf"^{_ECHO}.*\n", said, flags=re.MULTILINE)[1:]
        if len(answers) != len(requests):
            raise InspectError("debugfs did not answer each request", hint="the file system holds names with line ends")
        return answers


@contextmanager
def _script(requests: Iterable[str]) -> Iterator[str]:
    """A file with these requests for debugfs, a line each."""
    with tempfile.NamedTemporaryFile("w", prefix="xenpair-debugfs-") as script:
        script.writelines(f"{request}\n" for request in requests)
        script.flush()
        yield script.name


def _digest(content: IO[bytes], size: int) -> str:
    digest = hashlib.sha256()
    while size and (piece := content.read(min(size, PIECE))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()
