"""The server's key and certificate. Machines know the certificate by its sha256, so no authority stands behind it."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from config.door import run, write_file
from images.serving.errors import ServeError

FILE = "serve.pem"
"""Beside the clusters' secrets. It is kept: an installation that is under way goes on after a restart of the server,
and installed nodes still find it the one that they know."""
_DAYS = "7300"


@dataclass(frozen=True)
class Certificate:
    """A key with its certificate, in one file of mode 0600."""

    file: Path

    @classmethod
    def ensure(cls, directory: Path) -> Certificate:
        """The one in that directory, made now if there is none. Raises ServeError where others can read it."""
        path = directory / FILE
        if not path.exists():
            write_file(path, _new(), mode=0o600)
        found = path.stat()
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise ServeError(
                f"others can read the server's key {path}", hint=f"rm {path}: the next start makes a new one"
            )
        made = cls(path)
        try:
            made.context()
        except (ssl.SSLError, ValueError) as e:
            raise ServeError(f"{path} is no key with its certificate: {e}", hint=f"rm {path}, and start again") from e
        return made

    def context(self) -> ssl.SSLContext:
        """For the listener."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.file)
        return context

    @property
    def pin(self) -> str:
        """sha256 (hex) of the certificate as DER."""
        _, begin, rest = self.file.read_text().partition("-----BEGIN CERTIFICATE-----")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(begin + rest)).hexdigest()

    def derived(self, purpose: str) -> bytes:
        """A key for something else, which only who has the private key can derive."""
        return hashlib.sha256(purpose.encode() + b"\0" + self.file.read_bytes()).digest()


def _new() -> str:
    # A directory of mkdtemp is 0700.
    with tempfile.TemporaryDirectory(prefix="xenpair-serve-") as directory:
        key, certificate = Path(directory, "key"), Path(directory, "certificate")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        out: list[str | Path] = ["-keyout", key, "-out", certificate, "-days", _DAYS, "-subj", "/CN=xenpair serve"]
        run(["openssl", "req", "-x509", *curve, *out])
        return key.read_text() + certificate.read_text()
