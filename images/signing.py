"""The key that this site's images are signed with, and its signatures: made and checked by ssh-keygen alone.

The key lies beside the other secrets of the config. Its public half goes into the installer, which writes no image that
another key has signed, and into out/, where an administrator checks the sums with it:

    ssh-keygen -Y verify -f image-signers -I xenpair -n xenpair-image -s SHA256SUMS.sig < SHA256SUMS
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.door import run, write_file
from config.errors import CommandError
from config.payload import SIGNATURE_NAMESPACE, SIGNER
from config.signature import signer
from images.errors import BuildError

KEY = "image-signing"
SIGNERS = "image-signers"
"""The allowed signers (ssh-keygen(1)), as a file of out/ and of the installer's /etc/xenpair/."""


@dataclass(frozen=True)
class SigningKey:
    """The private half as a file, the public half as text: `ssh-ed25519 AAAA...`."""

    private: Path
    public: str

    @property
    def signers(self) -> str:
        """The file of allowed signers that trusts this key, for images only."""
        return _signers(self.public)

    def sign(self, text: str) -> str:
        """The signature of a text. The same key and text always give the same (RFC 8032, 5.1.6)."""
        return run(["ssh-keygen", "-q", "-Y", "sign", "-f", self.private, "-n", SIGNATURE_NAMESPACE], stdin=text).stdout


def ensure(directory: Path) -> SigningKey:
    """The key in the directory of secrets, made now if there is none yet. Raises BuildError for one that is of no use.

    directory has to be there, and be private.
    """
    private = directory / KEY
    if not os.path.lexists(private):
        _create(private)
    public = _public_half(private)
    write_file(private.with_name(f"{KEY}.pub"), f"{public}\n")
    return SigningKey(private, public)


def known(directory: Path) -> str | None:
    """The file of allowed signers that trusts the key in the directory of secrets; None where there is no key yet."""
    try:
        return _signers((directory / f"{KEY}.pub").read_text().strip())
    except OSError:
        return None


def verified(text: str, signature: Path, signers: str) -> str | None:
    """The fingerprint of the key that signed the text, if that file of allowed signers has it; else None."""
    with tempfile.NamedTemporaryFile("w", suffix=f"-{SIGNERS}") as allowed:
        allowed.write(signers)
        allowed.flush()
        return signer(text, signature, Path(allowed.name))


def _signers(public: str) -> str:
    return f'{SIGNER} namespaces="{SIGNATURE_NAMESPACE}" {public}\n'


def _create(private: Path) -> None:
    """A new key, unless another process has just made one: link() never replaces, and takes only whole files."""
    with tempfile.TemporaryDirectory(dir=private.parent, prefix=f".{KEY}-") as directory:
        new = Path(directory) / KEY
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", SIGNATURE_NAMESPACE, "-f", new])
        with suppress(FileExistsError):
            os.link(new, private)


def _public_half(private: Path) -> str:
    try:
        mode = private.stat().st_mode & 0o777
        if mode & 0o077:
            raise BuildError(f"{private} has mode {mode:04o}, so others can read it", hint=f"chmod 600 {private}")
        kind, key = run(["ssh-keygen", "-y", "-P", "", "-f", private]).stdout.split()[:2]
    except (OSError, CommandError, ValueError) as e:
        why = e.stderr.strip() if isinstance(e, CommandError) else str(e)
        raise BuildError(
            f"{private} is no key that can sign without a passphrase: {why}",
            hint="move it away, and a new one is made at the next build; media that exist keep trusting the old one",
        ) from e
    return f"{kind} {key}"
