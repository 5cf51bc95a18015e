"""How fast 50 machines at once get the image from `invoke serve`, against nginx with the same file in the same run."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.rows import Row
from config import secrets
from config.door import kill_group, stream
from config.errors import XenpairError
from config.loader import load
from config.payload import ALIGNMENT, EDGE, IMAGE, INDEX, Index, Piece
from images.serving.tree import FILES, IMAGE_DIRECTORY

MACHINES = 50
IMAGE_SIZE = 300 << 20
"""Bytes; the packed image has about as many."""
ROUNDS = 3
"""Of each, in turn: what else the host does meets both."""
SHARE_OF_NGINX = 0.8
"""Of its throughput: the least that we may have."""
MEMORY_LIMIT = 200.0
"""MB that our process may have had at most."""
_PROJECT = Path(__file__).resolve().parent.parent
_START_LIMIT, _PULL_LIMIT = 30.0, 120.0
_PIECE = 1 << 20

_NGINX = """\
daemon off;
worker_processes auto;
pid {scratch}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  server {{ listen 127.0.0.1:{port}; root {tree}; }}
}}
"""


class ServingError(XenpairError):
    """A server did not start, or did not send all of the image."""


def measure_serving(config: Path, cache: Path) -> list[Row]:
    """Both serve a file of 300 MB that is in memory. Needs nginx. Raises ServingError, CommandError."""
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="bench-"))
    try:
        tree = _write_tree(scratch / "netboot")
        theirs, *our_ports = _free_ports(4)
        ours = our_ports[0]
        conf = scratch / "nginx.conf"
        conf.write_text(_NGINX.format(scratch=scratch, port=theirs, tree=tree))
        # nginx's workers change their user where it is started as root.
        scratch.chmod(0o755)
        nginx = ["nginx", "-e", "stderr", "-c", str(conf)]
        with _running(nginx, theirs), _running(_serve_argv(config, scratch, tree, our_ports), ours) as server:
            _pull(theirs, machines=1)
            times = [(_pull(theirs), _pull(ours)) for _ in range(ROUNDS)]
            memory = _peak_memory(server.pid)
    finally:
        shutil.rmtree(scratch)
    floor, took = (sum(column) / ROUNDS for column in zip(*times, strict=True))
    return [
        Row(f"{MACHINES} machines pull {IMAGE_SIZE >> 20} MB from nginx (the floor)", floor),
        Row(f"{MACHINES} machines pull {IMAGE_SIZE >> 20} MB from invoke serve", took, floor / SHARE_OF_NGINX),
        Row("  its memory at most, in MB", memory, MEMORY_LIMIT),
    ]


def _write_tree(tree: Path) -> Path:
    (tree / IMAGE_DIRECTORY).mkdir(parents=True)
    for name in FILES:
        (tree / name).touch()
    with (tree / IMAGE_DIRECTORY / IMAGE).open("wb") as f:
        for _ in range(IMAGE_SIZE // _PIECE):
            f.write(os.urandom(_PIECE))
    piece = Piece(at=0, size=ALIGNMENT, packed_at=0, packed_size=IMAGE_SIZE, sha256="0" * 64)
    index = Index(key="bench", root_uuid="none", disk_size=4 * EDGE, root_start=EDGE, pieces=(piece,))
    (tree / IMAGE_DIRECTORY / INDEX).write_text(index.to_json())
    return tree


def _serve_argv(config: Path, scratch: Path, tree: Path, ports: Sequence[int]) -> list[str]:
    http, tls, page = ports
    own = scratch / "config" / config.name
    own.parent.mkdir()
    shutil.copyfile(config, own)
    secrets.ensure(load(own).cluster, own.parent / "secrets")
    where = [f"--http-port={http}", f"--tls-port={tls}", f"--page=127.0.0.1:{page}"]
    what = ["--interface=lo", "--dhcp=none", f"--config={own}", f"--out={tree}"]
    return [sys.executable, "-m", "invoke", "--search-root", str(_PROJECT), "serve", *what, *where]


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


@contextmanager
def _running(argv: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server, once it answers at that port."""
    with tempfile.TemporaryFile() as errors:
        process = stream(argv, errors=errors)
        try:
            deadline = time.monotonic() + _START_LIMIT
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    raise ServingError(f"{argv[0]} does not serve: {errors.read().decode(errors='replace')}")
                time.sleep(0.1)
            yield process
        finally:
            kill_group(process)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _pull(port: int, machines: int = MACHINES) -> float:
    """Seconds until all machines have the image. What comes is dropped by the kernel: to read it would cost more than
    to send it (tcp(7), MSG_TRUNC)."""
    request = f"GET /{IMAGE_DIRECTORY}/{IMAGE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    begun = time.monotonic()
    poll, open_ones, received = select.epoll(), dict[int, socket.socket](), 0
    try:
        for _ in range(machines):
            one = socket.create_connection(("127.0.0.1", port))
            open_ones[one.fileno()] = one
            one.sendall(request)
            one.setblocking(False)
            poll.register(one, select.EPOLLIN)
        scrap = bytearray(_PIECE)
        while open_ones:
            if time.monotonic() - begun > _PULL_LIMIT:
                raise ServingError(f"{len(open_ones)} of {machines} machines have no image after {_PULL_LIMIT:.0f} s")
            for number, _ in poll.poll(1.0):
                count = open_ones[number].recv_into(scrap, _PIECE, socket.MSG_TRUNC)
                received += count
                if count == 0:
                    poll.unregister(number)
                    open_ones.pop(number).close()
    finally:
        poll.close()
        for one in open_ones.values():
            one.close()
    if received < machines * IMAGE_SIZE:
        raise ServingError(f"{machines} machines got {received} bytes, and the image has {IMAGE_SIZE}")
    return time.monotonic() - begun


def _peak_memory(pid: int) -> float:
    """MB (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024 / 1e6
