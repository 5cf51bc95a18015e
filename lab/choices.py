"""Words of the command line that stand for one of a few things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from lab.errors import LabError

T = TypeVar("T", bound=str)


def one_of(known: Sequence[T], word: str, wrong: str, instead: str) -> T:
    """The one that is spelled like that. Raises LabError, which says what is wrong and lists them after instead."""
    for one in known:
        if one == word:
            return one
    raise LabError(wrong, hint=f"{instead} {', '.join(known)}")
