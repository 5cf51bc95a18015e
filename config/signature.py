"""Who has signed a text: asked of ssh-keygen, on the build host as in the installer. Signatures are for images only."""

from __future__ import annotations

import re
from pathlib import Path

from config.door import run
from config.payload import SIGNATURE_NAMESPACE, SIGNER

_KEY = re.compile(r"key (SHA256:\S+)$", re.MULTILINE)


def signer(text: str, signature: Path, signers: Path) -> str | None:
    """The fingerprint of the key that signed the text, if it is one of the allowed signers; else None."""
    return _fingerprint("verify", text, signature, "-f", str(signers), "-I", SIGNER)


def claimed_signer(text: str, signature: Path) -> str | None:
    """The fingerprint of the key that signed the text, whosever it is; None where the signature is of another text."""
    return _fingerprint("check-novalidate", text, signature)


def _fingerprint(verb: str, text: str, signature: Path, *options: str) -> str | None:
    argv = ["ssh-keygen", "-Y", verb, *options, "-n", SIGNATURE_NAMESPACE, "-s", str(signature)]
    done = run(argv, stdin=text, check=False)
    match = _KEY.search(done.stdout)
    return match[1] if done.returncode == 0 and match else None
