"""A mirror of Debian's archive on the loopback, the same for all who are measured; what was asked for once is here.

It hands out what the real mirror gave, signatures included, so nobody has to trust it.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images.errors import MirrorError
from images.sources import Mirror, fetch


@dataclass(frozen=True)
class Served:
    """A mirror that runs: the addresses of its two archives, and how many files it has had to fetch so far."""

    main: str
    security: str
    fetched: Callable[[], int]


@contextmanager
def mirror_of(upstream: Mirror, directory: Path) -> Iterator[Served]:
    """Serve what directory holds of both archives, and fetch into it what it does not hold yet.

    Indexes are those of today, for as long as it runs.
    """
    archives = {"debian": upstream.main, "debian-security": upstream.security}
    store = _Store()
    for archive in archives:
        shutil.rmtree(directory / archive / "dists", ignore_errors=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """One file of the archive, or 404."""
            archive, _, name = self.path.lstrip("/").partition("/")
            path = directory / archive / name
            if archive not in archives or ".." in name or not store.has(path, f"{archives[archive]}/{name}"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            with path.open("rb") as f:
                shutil.copyfileobj(f, self.wfile)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        yield Served(f"{base}/debian", f"{base}/debian-security", lambda: store.fetched)
        server.shutdown()


class _Store:
    """Files of the archives; what the mirror did not give is not asked for twice in one run."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._absent = set[Path]()
        self.fetched = 0

    def has(self, path: Path, uri: str) -> bool:
        """Whether the file is here or could be fetched."""
        with self._guard:
            if path.is_file() or path in self._absent:
                return path.is_file()
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                fetch(uri, path)
                self.fetched += 1
            except MirrorError:
                self._absent.add(path)
            return path.is_file()
