"""The one door to the machine: run() for programs, write_file() and copy_file() for files.

Nothing else in xenpair starts a program to change something, or writes a file that has to survive a power cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from config.errors import CommandError, CopyError

log = logging.getLogger("xenpair")

DEFAULT_TIMEOUT = 120.0
"""Seconds. Long enough for any single tool that we call on a slow node, short enough that a hang is noticed."""

PIECE = 1 << 20
"""Bytes that are copied at a time."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Output:
    """What a program left behind: its exit code and its decoded output."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    timeout: float | None = DEFAULT_TIMEOUT,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    blot: Sequence[str] = (),
    forsake: bool = False,
) -> Output:
    """Run a program to its end and return what it printed.

    argv is a list, never a shell line. Standard input is /dev/null unless text is given; the environment is built from
    scratch (LANG=C.UTF-8, a fixed PATH, HOME, plus env). The program gets a process group of its own: at the timeout
    (seconds), or when this process is interrupted, the whole group is killed. A program that reads a secret from a file
    may still print it: whatever a pattern of blot matches is blotted out of what it printed. What waits for a frozen
    disk dies only when that thaws: forsake it, where it only looks, and its end is not waited for.

    Raises CommandError when the program is missing, times out, or (with check) exits non-zero.
    """
    args = [os.fspath(a) for a in argv]
    environment = {**_environment(), **(env or {})}
    log.debug("+ %s", shlex.join(args))
    try:
        process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as e:
        raise CommandError(args, None, "", what=f"cannot be started: {e.strerror}") from e
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process, patience=0 if forsake else None)
        stderr = "" if forsake else _last_words(process)
        raise CommandError(args, None, _blotted(stderr, blot), what=f"no end after {timeout:.0f} s, killed") from None
    except BaseException:
        kill_group(process)
        raise
    stdout, stderr = _blotted(stdout, blot), _blotted(stderr, blot)
    if check and process.returncode != 0:
        raise CommandError(args, process.returncode, stderr)
    return Output(process.returncode, stdout, stderr)


def start(argv: Sequence[str | Path]) -> None:
    """Start a program that goes on after this one, in a session of its own, with nothing to read and nobody to hear it.

    Raises CommandError when it is missing.
    """
    args = [os.fspath(a) for a in argv]
    log.debug("+ %s &", shlex.join(args))
    nowhere = subprocess.DEVNULL
    try:
        subprocess.Popen(
            args, stdin=nowhere, stdout=nowhere, stderr=nowhere, cwd="/", env=_environment(), start_new_session=True
        )
    except OSError as e:
        raise CommandError(args, None, "", what=f"cannot be started: {e.strerror}") from e


def stream(
    argv: Sequence[str | Path], *, talk: bool = False, errors: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program whose standard output the caller reads for as long as both live, in a session of its own.

    talk: the caller writes to its standard input too; errors: where its standard error goes, else nowhere. Raises
    CommandError when it is missing.
    """
    args = [os.fspath(a) for a in argv]
    log.debug("+ %s |", shlex.join(args))
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            args,
            stdin=subprocess.PIPE if talk else nowhere,
            stdout=subprocess.PIPE,
            stderr=errors or nowhere,
            cwd="/",
            env=_environment(),
            # Ctrl-C is for this process, which then ends the other one in order.
            start_new_session=True,
        )
    except OSError as e:
        raise CommandError(args, None, "", what=f"cannot be started: {e.strerror}") from e


def _environment() -> dict[str, str]:
    return {"LANG": "C.UTF-8", "PATH": SYSTEM_PATH, "HOME": os.environ.get("HOME", "/root")}


def _blotted(text: str, patterns: Sequence[str]) -> str:
    for pattern in patterns:
        text = re.sub(pattern, "[secret]", text)
    return text


def _last_words(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=2)[1]
    except subprocess.TimeoutExpired:
        # Something that it started in a session of its own, such as ssh's master, still holds the pipe.
        return ""


def kill_group(process: subprocess.Popen[str] | subprocess.Popen[bytes], *, patience: float | None = None) -> None:
    """Kill a program that was started in a session of its own, with all its children, and reap it.

    patience: seconds to wait for its end at most; None: for as long as the kernel does not let it die.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)


def write_file(path: Path, content: str | bytes, *, mode: int = 0o644, parents: bool = True) -> bool:
    """Replace a file atomically, so that a power cut leaves the old or the new content and nothing in between.

    Temp file beside it, chmod before the content, fsync, rename, fsync of the directory. Returns False, and touches
    nothing, when the file already has that content and mode.
    """
    data = content.encode() if isinstance(content, str) else content
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o7777 == mode and path.read_bytes() == data:
            return False
    with _replacement(path, mode, parents=parents) as f:
        f.write(data)
    return True


def copy_file(source: Path, path: Path, *, sha256: str, mode: int = 0o644) -> bool:
    """Copy a file of any size just as atomically, piece by piece; sha256 (hex) is what it must have.

    Returns False, and touches nothing, when path already has that content and mode. Raises CopyError where the source
    is not what it should be; then path stays as it is.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o7777 == mode and sha256_of(path) == sha256:
            return False
    with source.open("rb") as f:
        store_file(iter(lambda: f.read(PIECE), b""), path, sha256=sha256, name=str(source), mode=mode)
    return True


def store_file(pieces: Iterable[bytes], path: Path, *, sha256: str, name: str, mode: int = 0o644) -> None:
    """Make a file of what comes in pieces, as atomically; name is what messages call where it comes from.

    Raises CopyError where all of it does not have that sha256 (hex); then path stays as it is.
    """
    found = hashlib.sha256()
    with _replacement(path, mode) as copy:
        for piece in pieces:
            found.update(piece)
            copy.write(piece)
        if found.hexdigest() != sha256:
            raise CopyError(f"{name} is damaged: its sha256 is {found.hexdigest()}, and should be {sha256}")


def sha256_of(path: Path) -> str:
    """The sha256 (hex) of a file of any size."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@contextlib.contextmanager
def _replacement(path: Path, mode: int, *, parents: bool = True) -> Iterator[BinaryIO]:
    """A file that takes the place of path at the end, or leaves nothing behind where that is not reached."""
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as f:
            os.fchmod(f.fileno(), mode)
            yield f
            f.flush()
            os.fsync(f.fileno())
        Path(name).rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
