"""The exception tree. Every error that a user can cause or meet derives from XenpairError.

An error says what was expected, what was found, and what to do next. It carries the process exit code that the
command line turns it into, so no code below the command line ever calls sys.exit.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar


class XenpairError(Exception):
    """Root of the tree: a message, and optionally a hint that says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class CommandError(XenpairError):
    """A program exited non-zero, could not be started, or ran into its timeout.

    argv is a list, returncode is None where the program never ended by itself, stderr is decoded text, what says in a
    few words how it ended.
    """

    def __init__(self, argv: Sequence[str], returncode: int | None, stderr: str, *, what: str = "") -> None:
        self.argv = list(argv)
        self.returncode = returncode
        self.stderr = stderr
        self.what = what or f"exit code {returncode}"
        tail = "\n".join(f"  {line}" for line in stderr.strip().splitlines()[-20:])
        super().__init__(f"{shlex.join(argv)}: {self.what}" + (f"\n{tail}" if tail else ""))


class CopyError(XenpairError):
    """What was to be copied is not what it should be."""
