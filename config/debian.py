"""What the dom0 is made of: Debian, and packages from elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from config.values import BuildPath, Fingerprint, Model, PackageName, RepositoryUri, YesOrNo


class Backport(Model):
    """A package that the dom0's suite lacks or has an older version of. Which are installed, debian.packages says."""

    package: PackageName
    """Name of the source package; with rebuild: false, of the binary package."""
    suite: Literal["forky", "sid"] = "sid"
    """Debian suite that it is taken from, of the same mirror."""
    source: BuildPath | None = None
    """In place of a suite: a .dsc with its files beside it, or a directory with a debian/ in it."""
    rebuild: YesOrNo = True
    """Whether it is built anew for the dom0's suite; false takes it as it is, if that suite has all it depends on."""
    tests: YesOrNo = True
    """Whether the package's own tests are run when it is rebuilt; one that fails fails the image."""

    @property
    def origin(self) -> str:
        """Where it comes from, in a word."""
        return self.suite if self.source is None else self.source.rstrip("/").rpartition("/")[2]


class DebFile(Model):
    """A ready package. It is installed, whichever version the archive has."""

    path: BuildPath
    """The .deb, as a path from the config's directory or an absolute one."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """What `sha256sum` must print of it."""


class Repository(Model):
    """A signed archive of somebody else's packages. debian.packages says what is installed; the newest version is."""

    uri: RepositoryUri
    """Where it is, as in a sources.list: http, https or file. A file: one is for the build alone, not for the nodes."""
    suite: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$")]
    """Its suite or codename."""
    components: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")], ...] = ("main",)
    """Its components."""
    key: BuildPath
    """File with the one OpenPGP key that signs it, armored or binary."""
    fingerprint: Fingerprint
    """The fingerprint that this key must have, from where you trust it: `gpg --show-keys FILE` prints the file's."""


class Debs(Model):
    """Packages that are neither Debian's nor rebuilt here. A DKMS module among them is built for the dom0's kernel."""

    files: tuple[DebFile, ...] = ()
    """Ready .deb files."""
    repositories: tuple[Repository, ...] = ()
    """Signed archives."""


class Debian(Model):
    """What the dom0 image is made of."""

    suite: Literal["trixie"] = "trixie"
    """Debian release of the dom0."""
    mirror: Literal["auto"] | Annotated[str, Field(pattern=r"^https?://[^\s]+$")] = "auto"
    """auto: the mirrors that the build host's own apt uses; or the URL of a mirror that holds main and security."""
    snapshot: Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{6}Z$")] | None = None
    """The archive as it was at that moment (UTC), like 20260102T030405Z, is what the dom0 is made of; its upgrades come
    from mirror all the same."""
    snapshot_mirror: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Where the archive's past is kept: below this URL, and below the same with -security at its end, a directory for
    each moment."""
    packages: tuple[PackageName, ...] = ()
    """Further packages for the dom0."""
    backports: tuple[Backport, ...] = ()
    """Packages to bring from a newer suite, or from a source of your own; they are taken where they are newer."""
    debs: Debs = Debs()
    """Ready packages from elsewhere."""
