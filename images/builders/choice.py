"""`--builder auto|local|docker`: where this build happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from images import preflight
from images.builders import host
from images.disklayer import Format
from images.errors import BuildError, EngineError, PreflightError

if TYPE_CHECKING:
    from images.builders.engine import Engine

Where = Literal["auto", "local", "docker"]


@dataclass(frozen=True)
class Wish:
    """What was asked for. suite: of the container's Debian."""

    where: Where
    suite: str


def parse(text: str) -> Wish:
    """auto, local or docker; docker:SUITE names the release of the container. Raises BuildError."""
    where, colon, suite = text.partition(":")
    if where not in get_args(Where) or (colon and (where != "docker" or suite not in host.SUITES)):
        known = ", ".join((*get_args(Where), *(f"docker:{name}" for name in host.SUITES)))
        raise BuildError(f"no builder: {text!r}", hint=f"choose from {known}")
    return Wish(cast("Where", where), suite or host.suite())


def connect() -> Engine:
    """As images.builders.engine.connect()."""
    from images.builders import engine  # noqa: PLC0415 - Docker's library takes a moment, and most builds need none

    return engine.connect()


def engine_for(wish: Wish, formats: tuple[Format, ...], connect: Callable[[], Engine] = connect) -> Engine | None:
    """The engine to build with, or None to build here. Raises BuildError where neither can be.

    auto: here, unless something is missing for that.
    """
    if wish.where == "local":
        return None
    if wish.where == "docker":
        return connect()
    try:
        preflight.check_tools(formats)
        preflight.check_namespaces()
    except PreflightError as local:
        try:
            return connect()
        except EngineError as other:
            raise BuildError(
                f"nothing can be built here: {local.message}; and in a container neither: {other.message}",
                hint=f"either: {local.hint}\n  or: {other.hint}",
            ) from other
    return None
