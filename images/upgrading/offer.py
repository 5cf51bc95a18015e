"""What an upgrade brings: the package that was built and signed here, and a config that is valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.door import sha256_of
from config.loader import Loaded
from images import manifest, signing
from images.errors import UpgradeError

REBUILD = "`invoke build-image` makes a whole one"


@dataclass(frozen=True)
class Offer:
    """The package's file, and the config."""

    package: Path
    loaded: Loaded


def offer(loaded: Loaded, out: Path) -> Offer:
    """The package of what was built in out, once it is proven to be what this site's key has signed.

    Raises UpgradeError where it is not, or is not there.
    """
    found = manifest.read(out)
    names = [name for name in found.artifacts if name.endswith(".deb")] if found else []
    if not names:
        raise UpgradeError(f"{out} holds no image with its package", hint=REBUILD)
    (name,) = names
    try:
        sums = (out / manifest.SUMS).read_text()
        measured = sha256_of(out / name)
    except OSError as e:
        raise UpgradeError(f"{e.filename} cannot be read: {e.strerror}", hint=REBUILD) from e
    # Not by the key in out, which whoever changed the package could have replaced as well.
    secrets = loaded.source.parent / "secrets"
    if (own := signing.known(secrets)) is None:
        raise UpgradeError(f"{secrets} has no key {signing.KEY}, so nothing is known to be signed by it", hint=REBUILD)
    if signing.verified(sums, out / manifest.SUMS_SIGNATURE, own) is None:
        raise UpgradeError(f"{out / manifest.SUMS} is not what the key of {secrets} has signed", hint=REBUILD)
    if f"{measured}  {name}" not in sums.splitlines():
        raise UpgradeError(f"{out / name} is not the package that {manifest.SUMS} tells of", hint=REBUILD)
    return Offer(out / name, loaded)
