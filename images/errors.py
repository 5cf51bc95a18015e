"""What can go wrong while an image is built. Each error says what to do next."""

from __future__ import annotations

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


class StickError(XenpairError):
    """The install medium is not written to that device, or the device does not hold what was written."""
