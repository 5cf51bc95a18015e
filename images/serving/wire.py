"""What machines say to the server, as JSON: typed, and bounded in size, since anybody on the network may say it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config.machine import Machine
from config.values import Mac
from images.serving.errors import RefusalError

BODY_LIMIT = 64 << 10
"""Bytes of a request's body."""
TEXT_LIMIT = 2000
"""Characters of a report's text: an error of ours with its hint and a tool's last words."""
LOG_LINES, LOG_LINE_LIMIT = 40, 400
"""The last lines of a log that are kept, and characters of each."""


def _plain(text: str) -> str:
    """Without control characters: a terminal shows it as well as the page."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _cut(text: str) -> str:
    return _plain(text[: TEXT_LIMIT - 1] + "…" if len(text) > TEXT_LIMIT else text)


def _last_lines(lines: list[str]) -> list[str]:
    return [_plain(line[:LOG_LINE_LIMIT]).replace("\n", " ") for line in lines[-LOG_LINES:]]


Word = Annotated[str, Field(max_length=128), AfterValidator(_plain)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hello(_Message):
    """A machine says what it can be recognised by."""

    nics: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")], Mac], Field(max_length=64)]
    """MAC address by interface name."""
    serial: Word = ""
    uuid: Word = ""

    def machine(self) -> Machine:
        """The machine that it describes."""
        return Machine(self.nics, self.serial, self.uuid)


class SecretsRequest(_Message):
    """A machine asks for its cluster's secrets."""

    ticket: Annotated[str, Field(max_length=128)]
    asker: Annotated[str, Field(max_length=64)] = ""
    """What nobody else can know: so the same installer may ask once more where the answer was lost on its way."""


class Report(_Message):
    """A machine says what it is at."""

    ticket: Annotated[str, Field(max_length=128)] = ""
    """The one that it got for its hello; empty where it got none."""
    machine: Mac
    """MAC address of one of its cards."""
    phase: Literal["installer", "firstboot"]
    step: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,32}$")]
    state: Literal["running", "waiting", "failed", "done"]
    text: Annotated[str, AfterValidator(_cut)] = ""
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    log: Annotated[list[str], AfterValidator(_last_lines)] = []
    """The log's last lines."""


class Allow(_Message):
    """The administrator lets a node have its secrets once more."""

    cluster: Word
    node: Word


M = TypeVar("M", bound=BaseModel)


def parse(kind: type[M], body: bytes) -> M:
    """A message out of a request's body. Raises RefusalError, which names the first fault, for what is none."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as e:
        error = e.errors()[0]
        place = ".".join(map(str, error["loc"]))
        raise RefusalError(400, f"not understood: {place + ': ' if place else ''}{error['msg']}") from None
