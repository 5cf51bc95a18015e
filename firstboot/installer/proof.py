"""That the index of an image is the one that was signed, by a key that this installer trusts."""

from __future__ import annotations

from pathlib import Path

from config.door import write_file
from config.payload import INDEX, SIGNATURE
from config.signature import claimed_signer, signer
from firstboot.errors import ImageError

SIGNERS = Path("/etc/xenpair/image-signers")
"""Keys that may sign an image, as ssh-keygen(1) reads them (ALLOWED SIGNERS); the installer is built with it."""


def prove(index: bytes, signature: bytes, scratch: Path, *, signers: Path = SIGNERS) -> None:
    """Return only where the signature is of that index and by one of the signers. scratch: a directory for it.

    Raises ImageError.
    """
    file = scratch / SIGNATURE
    write_file(file, signature)
    try:
        text = index.decode()
    except UnicodeDecodeError as e:
        raise _changed() from e
    if signer(text, file, signers) is not None:
        return
    key = claimed_signer(text, file)
    if key is None:
        raise _changed()
    raise ImageError(
        f"{INDEX} is signed by the key {key}, which this installer does not trust",
        hint="boot the installer that was built together with this image",
    )


def _changed() -> ImageError:
    return ImageError(
        f"{INDEX} is not what was signed: {SIGNATURE} does not fit it",
        hint="it was damaged or changed since it was built: write the medium anew, or build the image again",
    )
