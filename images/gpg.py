"""A detached signature by gpg, with a key of the administrator's own: for sites that hand their images on.

gpg finds its keys as it always does; its agent asks for the passphrase.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.door import Output, run
from config.errors import CommandError
from images.errors import BuildError

_PASSED_ON = ("GNUPGHOME", "GPG_TTY", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS")
"""Variables by which the agent finds its keys, and a place to ask on (gpg-agent(1))."""
_PATIENCE = 300.0
"""Seconds for somebody to type a passphrase."""
_VALID = re.compile(r"^\[GNUPG:\] VALIDSIG ([0-9A-F]+)", re.MULTILINE)
_GOOD = re.compile(r"^\[GNUPG:\] GOODSIG [0-9A-F]+ (.+)$", re.MULTILINE)
_MISSING = re.compile(r"^\[GNUPG:\] NO_PUBKEY ([0-9A-F]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """Whether a signature is good; text says by which key, or what is wrong."""

    good: bool
    text: str


def check(key: str) -> None:
    """Raise BuildError unless gpg has that secret key."""
    if _gpg(["--list-secret-keys", "--", key], check=False).returncode != 0:
        hint = "`gpg --list-secret-keys` shows which there are: name one by its fingerprint"
        raise BuildError(f"gpg has no secret key {key!r}", hint=hint)


def sign(text: str, key: str) -> str:
    """The armored signature of a text. Raises BuildError where gpg does not sign."""
    try:
        return _gpg(["--armor", "--local-user", key, "--detach-sign"], stdin=text).stdout
    except CommandError as e:
        raise BuildError(
            f"gpg does not sign with {key!r}: {e.stderr.strip() or e.what}",
            hint="where it has to ask for a passphrase on a terminal: export GPG_TTY=$(tty)",
        ) from e


def verified(file: Path, signature: Path) -> Finding:
    """What gpg says of a signature of a file, by the public keys that it has."""
    return parse_status(_gpg(["--status-fd", "1", "--verify", "--", str(signature), str(file)], check=False).stdout)


def parse_status(status: str) -> Finding:
    """The same, from its status lines (GnuPG, doc/DETAILS)."""
    valid, good, missing = (pattern.search(status) for pattern in (_VALID, _GOOD, _MISSING))
    if valid and good:
        return Finding(good=True, text=f"ok, signed by {valid[1]}, {good[1]}")
    if missing:
        return Finding(good=False, text=f"gpg lacks the public key {missing[1]} (`gpg --import`)")
    return Finding(good=False, text="is no signature of it by a key that is good now")


def _gpg(words: Sequence[str], *, check: bool = True, stdin: str | None = None) -> Output:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return run(["gpg", "--batch", *words], check=check, stdin=stdin, env=environment, timeout=_PATIENCE)
