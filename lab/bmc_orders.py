"""Power orders that a BMC has acknowledged and that are not carried out yet: a file for each node, one order a line.

The chassis program adds, lab.bmc_power carries out and takes away, in that order. The file is there while the BMC is:
what asks for an order after that, or for its execution, finds nothing. As long as an order waits the machine counts as
on, because a start may be under way. Standard library only, as lab.bmc_view.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

Order = Literal["off", "on", "reset"]

_ORDERS: tuple[Order, ...] = ("off", "on", "reset")


def create(directory: Path, node: str) -> None:
    """Make the file, if it is not there."""
    _file(directory, node).touch(mode=0o600)


def discard(directory: Path, node: str) -> None:
    """Forget all orders of that node, and take no more."""
    _file(directory, node).unlink(missing_ok=True)


def add(directory: Path, node: str, order: Order) -> None:
    """Add an order. Raises FileNotFoundError where none are taken."""
    with _locked(directory, node) as f:
        f.seek(0, 2)
        f.write(f"{order}\n")


def waiting(directory: Path, node: str) -> tuple[Order, ...]:
    """The orders that are not carried out yet, oldest first."""
    try:
        with _locked(directory, node) as f:
            return _parse(f)
    except FileNotFoundError:
        return ()


def finish(directory: Path, node: str) -> None:
    """Take the oldest order away."""
    with _locked(directory, node) as f:
        rest = _parse(f)[1:]
        f.seek(0)
        f.truncate()
        f.writelines(f"{order}\n" for order in rest)


def _parse(f: TextIO) -> tuple[Order, ...]:
    lines = f.read().split()
    return tuple(order for line in lines for order in _ORDERS if order == line)


def _file(directory: Path, node: str) -> Path:
    return directory / f"{node}.bmc.orders"


@contextmanager
def _locked(directory: Path, node: str) -> Iterator[TextIO]:
    with _file(directory, node).open("r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield f
