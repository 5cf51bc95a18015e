"""Listening sockets, taken before anything else is done: a port that somebody has is known at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from images.serving.errors import ServeError
from images.serving.options import Endpoint

BACKLOG = 256


def listen(endpoint: Endpoint, option: str) -> socket.socket:
    """A TCP socket there. Raises ServeError, which names the option that chooses another port."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((str(endpoint.address), endpoint.port))
        made.listen(BACKLOG)
    except OSError as e:
        made.close()
        hint = {
            errno.EADDRINUSE: f"`ss -ltnp 'sport = :{endpoint.port}'` shows who has it; or choose another: {option}",
            errno.EACCES: f"ports below 1024 take root; or choose another with {option}",
        }.get(e.errno or 0, "")
        raise ServeError(f"cannot listen at {endpoint}: {e.strerror}", hint=hint) from e
    return made


def bound(listener: socket.socket, endpoint: Endpoint) -> Endpoint:
    """The endpoint with the port that it really has."""
    return Endpoint(endpoint.address, listener.getsockname()[1])


def check_free(ports: Sequence[int], interface: str) -> None:
    """Raise ServeError where somebody has one of these UDP ports on that network card."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                probe.bind(("", port))
            except OSError as e:
                raise ServeError(
                    f"UDP port {port} on {interface} cannot be had: {e.strerror}",
                    hint=f"`ss -lunp 'sport = :{port}'` shows who has it: another DHCP or TFTP server on this host "
                    "has to stop, or name our boot.ipxe itself (--dhcp none)",
                ) from e
