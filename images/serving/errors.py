"""What can keep the server from serving, and what it refuses to those who ask."""

from __future__ import annotations

from config.errors import XenpairError


class ServeError(XenpairError):
    """The server cannot do its work on this host, or not with what it was given."""


class RefusalError(XenpairError):
    """A machine is not given what it asks for. Carries the HTTP status that tells it so."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
