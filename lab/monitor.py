"""Talking to QEMU: QMP, through QEMU's own client library."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from qemu.qmp import ExecuteError, QMPClient, QMPError

from lab.errors import LabError, StartError
from lab.process import Process

TIMEOUT = 20.0
"""Seconds for one command. QEMU answers at once; only a host that is badly short of CPU takes longer."""


@contextlib.contextmanager
def short_path(directory: Path, name: str) -> Iterator[str]:
    """A path to a unix socket that stays within the 108 bytes of sun_path (unix(7)), however deep the directory is."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def execute(
    directory: Path,
    name: str,
    command: str,
    arguments: Mapping[str, object] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> object:
    """Run one QMP command on the monitor socket `name` in directory and return its answer.

    Raises LabError when QEMU cannot be reached, refuses the command, or does not answer in timeout seconds.
    """

    async def talk() -> object:
        client = QMPClient(name)
        with short_path(directory, name) as path:
            await client.connect(path)
        try:
            return await client.execute(command, dict(arguments or {}))
        finally:
            await client.disconnect()

    try:
        return asyncio.run(asyncio.wait_for(talk(), timeout))
    except ExecuteError as e:
        raise LabError(f"QEMU refused {command}: {e}") from e
    except (QMPError, OSError, TimeoutError) as e:
        raise LabError(f"QEMU does not answer on {directory / name}: {e or type(e).__name__}") from e


def wait_ready(process: Process, directory: Path, name: str, log: Path, timeout: float = TIMEOUT) -> None:
    """Wait until a QEMU just started has finished its set-up and listens.

    Raises StartError with the end of its log when it exits instead, or is not there after timeout seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            execute(directory, name, "query-status")
        except LabError:
            if process.alive() and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            reason = "does not answer" if process.alive() else "ended at once"
            process.kill()
            tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-8:])
            raise StartError(f"QEMU ({name.removesuffix('.qmp')}) {reason}:\n{tail}") from None
        else:
            return
