"""A small server of installations, over real sockets: HTTP with ranges that can break off, and TLS."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = tuple[int, Any]


@dataclass
class Site:
    """What is served, and what is to go wrong. asked: method, path and range of each request."""

    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Callable[[dict[str, Any]], Answer]] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    """Of the next answers with a file, so many bytes are sent each before the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """Of the next requests, each gets no more than such an answer."""
    ranges: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _refused(self) -> bool:
        site = self.server.site
        site.asked.append((self.command, self.path, self.headers.get("Range", "")))
        if site.statuses:
            self._answer(site.statuses.pop(0), b'{"error": "not now"}')
            return True
        return False

    def do_GET(self) -> None:
        site = self.server.site
        if self._refused():
            return
        content = site.files.get(self.path.partition("?")[0])
        if content is None:
            self._answer(404, b'{"error": "there is no such file"}')
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(match[1]) if match and site.ranges else 0
        self.send_response(206 if match and site.ranges else 200)
        if match and site.ranges:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        most = site.breaks.pop(0) if site.breaks else len(content)
        self.wfile.write(content[begin : begin + most])
        self.close_connection = True

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refused():
            return
        self.server.site.heard.append(question)
        status, answer = self.server.site.answers[self.path](question)
        self._answer(status, json.dumps(answer).encode() if answer else b"")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(site: Site, *, port: int = 0, certificate: Path | None = None) -> Iterator[int]:
    """Serve on loopback; gives the port. certificate: a PEM file with its key, for TLS."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.site = site
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_certificate(path: Path) -> str:
    """A self-signed certificate with its key; returns its pin."""
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-subj", "/CN=xenpair", "-days", "2", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(argv, check=True, capture_output=True)
    certificate = Path(f"{path}.crt").read_text()
    path.write_text(path.read_text() + certificate)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
