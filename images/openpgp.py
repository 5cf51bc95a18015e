"""Whether a key file holds the one key that it should: asked of gpg, before apt is told to trust it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from config.door import run
from images.errors import BuildError

_ARMOR = b"-----BEGIN PGP"


def check_key(path: Path, fingerprint: str) -> bytes:
    """The content of the file. Raises BuildError unless its one key has that fingerprint.

    A key beside it would be trusted as well, so there may be none.
    """
    data = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="xenpair-gpg-") as home:
        options = ["--homedir", home, "--batch", "--no-tty", "--no-autostart", "--with-colons"]
        found = primary_keys(run(["gpg", *options, "--show-keys", path], check=False).stdout)
    if not found:
        raise BuildError(f"{path} holds no OpenPGP key", hint="get the public key of the repository again")
    if found != [fingerprint]:
        raise BuildError(
            f"{path} holds the key {' and '.join(found)}, and the config says {fingerprint}",
            hint="get the one key that signs the repository, and compare its fingerprint with its maker's; "
            "nothing was built",
        )
    return data


def primary_keys(colons: str) -> list[str]:
    """Fingerprints of the primary keys, from `gpg --with-colons --show-keys` (GnuPG, doc/DETAILS)."""
    return re.findall(r"^pub:.*(?:\n(?!pub:|fpr:).*)*\nfpr:::::::::([0-9A-F]+):", colons, re.MULTILINE)


def file_name(stem: str, key: bytes) -> str:
    """apt tells an armored key from a binary one by its name alone (sources.list(5), Signed-By)."""
    return f"{stem}.asc" if key.lstrip().startswith(_ARMOR) else f"{stem}.gpg"
