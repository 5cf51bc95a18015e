"""HTTPS to the one server whose certificate has a certain sha256: no authority and no name is trusted, nor needed."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from firstboot.errors import InstallError, RefusedError

MOST = 4 << 20
"""Bytes of an answer: a config has at most 256 KiB, and further keys and names are not much more."""
AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that say nothing about the question: it may be asked again (RFC 9110, section 15)."""


class PinError(InstallError):
    """Somebody else answers in the server's place."""


class AwayError(InstallError):
    """The server does not answer now."""


class _PinnedConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, port: int, pin: str, timeout: float) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # what stands in for it is the pin, below
        super().__init__(host, port, timeout=timeout, context=context)
        self._pin = pin

    def connect(self) -> None:
        super().connect()
        certificate = self.sock.getpeercert(binary_form=True) or b""
        found = hashlib.sha256(certificate).hexdigest()
        if not hmac.compare_digest(found, self._pin):
            self.close()
            raise PinError(
                f"{self.host}:{self.port} shows a certificate of sha256 {found}, and the boot script names {self._pin}",
                hint="somebody else answers there, or the server was started anew: boot this machine again",
            )


@dataclass(frozen=True)
class PinnedServer:
    """Where it is (https://ADDRESS:PORT), and the sha256 (hex) of its certificate (DER)."""

    url: str
    pin: str

    def ask(self, path: str, question: dict[str, Any], *, timeout: float = 30.0) -> dict[str, Any]:
        """POST a question, and return the answer. timeout: seconds without a byte.

        Raises PinError, AwayError where it may be asked again, RefusedError with the answer's own text.
        """
        connection = self.connection(timeout)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(question).encode(), headers)
            response = connection.getresponse()
            content = response.read(MOST + 1)
        except (OSError, http.client.HTTPException) as e:
            raise AwayError(f"{self.url} does not answer: {e or type(e).__name__}") from e
        finally:
            connection.close()
        return _answer(f"{self.url}{path}", response.status, content)

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """One that says nothing before the certificate has been seen."""
        parts = urlsplit(self.url)
        return _PinnedConnection(parts.hostname or "", parts.port or 443, self.pin, timeout)


def _answer(where: str, status: int, content: bytes) -> dict[str, Any]:
    if status in AGAIN:
        raise AwayError(f"{where} answers {status} {http.client.responses.get(status, '')}".rstrip())
    if not 200 <= status < 300:
        raise RefusedError(refusal(where, status, content))
    if not content:
        return {}
    try:
        answer = json.loads(content)
    except ValueError as e:
        raise InstallError(f"{where} answers what is no JSON: {e}") from e
    if not isinstance(answer, dict):
        raise InstallError(f"{where} answers what is no JSON object")
    return answer


def refusal(where: str, status: int, content: bytes) -> str:
    """What the server says about its no: the error of its answer, or the status."""
    try:
        text = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        text = content.decode(errors="replace").strip()[:500] or http.client.responses.get(status, "")
    return f"{where} refuses ({status}): {text}"
