"""What can go wrong while an image is built. Each error says what to do next."""

from __future__ import annotations

from typing import ClassVar

from config.errors import XenpairError


class BuildError(XenpairError):
    """The image cannot be built; nothing half-made stands under a final name."""


class PreflightError(BuildError):
    """The build host lacks something, found before any work began."""


class MirrorError(BuildError):
    """Debian's archive cannot be reached, or what it sent does not verify."""


class LockError(BuildError):
    """The packages cannot be those of the lock, or the lock is not of this config."""


class DifferenceError(BuildError):
    """Two builds of the same inputs are not the same."""


class SpaceError(BuildError):
    """No space left on the build host."""


class EngineError(BuildError):
    """No Docker engine of this machine can be used, or it does not do what is asked of it."""


class StickError(XenpairError):
    """The install medium is not written to that device, or the device does not hold what was written."""


class InspectError(XenpairError):
    """That file is no image that can be looked into. The exit code is that of trouble, as diff(1) has it."""

    exit_code: ClassVar[int] = 2


class ArtifactError(XenpairError):
    """What a build has written is not there, or not as it was written."""


class UpgradeError(XenpairError):
    """An upgrade of the running pair is not begun, or stops: what is not reached is as it was."""
