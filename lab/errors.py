"""What can go wrong in the lab."""

from __future__ import annotations

from typing import ClassVar

from config.errors import XenpairError


class LabError(XenpairError):
    """The lab cannot do what was asked."""


class NoLabError(LabError):
    """There is no lab in the given directory."""


class StartError(LabError):
    """A process of the lab did not come up."""


class NotFormedError(LabError):
    """The pair did not form: a node failed, stopped, or hung until the timeout."""


class InterruptedWaitError(LabError):
    """The wait for the pair was interrupted; the nodes go on running."""

    exit_code: ClassVar[int] = 130
