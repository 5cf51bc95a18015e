"""What all of Invoke's tasks have in common: where things are if not told otherwise, and how a mistake is told."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.exceptions import Exit

from config.errors import XenpairError

PROJECT = Path(__file__).resolve().parent.parent
CONFIG = PROJECT / "config" / "cluster.yaml"
OUT = PROJECT / "out"
CACHE = PROJECT / ".cache"


def speaks(function: Callable[..., int | None]) -> Callable[..., None]:
    """A user's mistake, or a machine's, becomes one message and an exit code; anything else is a bug and shows."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            code = function(*args, **kwargs)
            sys.stdout.flush()
        except XenpairError as e:
            raise Exit(f"xenpair: {e}", code=e.exit_code) from None
        except KeyboardInterrupt:
            raise Exit("interrupted", code=130) from None
        except BrokenPipeError:
            # Who reads, such as head(1), has read enough; Python would try once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=128 + signal.SIGPIPE) from None
        if code:
            raise Exit(code=code)

    return wrapper
