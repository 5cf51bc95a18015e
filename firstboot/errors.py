"""What can stop a node. Each of these is final for this attempt: nothing is guessed, nothing is forced."""

from __future__ import annotations

from config.errors import XenpairError


class NodeError(XenpairError):
    """Something on this node is not as it has to be."""


class IdentityError(NodeError):
    """This machine is none of the config's nodes, or more than one of them."""


class BackingDiskError(NodeError):
    """No disk, or more than one, fits the backing rule; or the one that fits holds something."""


class SystemDiskError(NodeError):
    """No disk, or more than one, fits the system rule; or the one that fits is too small, or holds something."""


class UnfitDiskError(NodeError):
    """That disk cannot take the place of a mirror's dead half."""


class InstallError(NodeError):
    """The installer cannot get at something that it needs: its medium, its server, its command line."""


class RefusedError(InstallError):
    """The server has understood the question and says no; why, its answer says."""


class ImageError(InstallError):
    """The image is damaged, cut off, or not signed by who may sign it."""


class StorageError(NodeError):
    """DRBD or LVM is in a state from which no safe step leads on."""


class JournalError(NodeError):
    """The journal of first boot cannot be read."""


class ProbeError(NodeError):
    """A tool said something that we do not understand, so we do not act on it."""


class BmcError(NodeError):
    """A management controller did not answer, refused, or said what we do not understand."""


class FencingError(NodeError):
    """The peer cannot be declared off: it is there, or its BMC says that it has power."""


class SplitBrainError(NodeError):
    """A split brain cannot be shown or settled now, or was not settled by the words that it takes."""


class ReplacementError(NodeError):
    """A new machine cannot take the peer's place now, or not with that config."""


class UpgradeError(NodeError):
    """Another package or another config cannot be brought to this node now, or not that one."""


class PeerError(NodeError):
    """The peer does not answer, or not so that it is understood: nothing is known of it, so nothing is done."""


class LockedError(NodeError):
    """Somebody else is at it: says who, doing what, since when."""


class GuestError(NodeError):
    """A guest cannot be had that way."""


class ElsewhereError(GuestError):
    """The peer has it."""


class NotNowError(GuestError):
    """The pair is not whole now: the same can be had once it is."""


class HeldError(GuestError):
    """A guest that should run here has to wait until there is room for it."""
