"""What `invoke serve` is told on its command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from config.values import SshKey
from images.serving.errors import ServeError
from images.span import seconds

DhcpMode = Literal["proxy", "full", "none"]

_KEYS = TypeAdapter[str](SshKey)


@dataclass(frozen=True)
class Endpoint:
    """An address and a TCP port to listen at; port 0 is any that is free."""

    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Options:
    """What is served, to whom, and where."""

    configs: tuple[Path, ...]
    """One file for each cluster."""
    tree: Path
    """What `invoke build-image --formats netboot` has made."""
    interface: str
    """The network card towards the machines."""
    page: Endpoint
    """Where the web page is."""
    window: float
    """Seconds in which secrets are handed out."""
    address: IPv4Address | None = None
    """Ours on that interface; its first one if None."""
    dhcp: DhcpMode = "proxy"
    """proxy: another server gives out the addresses; full: we do; none: we have no part in it."""
    http_port: int = 8080
    tls_port: int = 8443
    authorized_keys: str = ""
    """Public keys, one a line, that may log in as root beside those of the configs."""


def parse_span(text: str) -> float:
    """Seconds of a span like 90s, 60m or 2h. Raises ServeError for anything else."""
    if (span := seconds(text, "smh")) is None:
        raise ServeError(f"--window {text!r} is not a span of time", hint="write it like 90s, 60m or 2h")
    return span


def parse_dhcp(text: str) -> DhcpMode:
    """The mode of that name. Raises ServeError for any other."""
    for mode in get_args(DhcpMode):
        if mode == text:
            return mode  # type: ignore[no-any-return]
    hint = "proxy: beside a DHCP server that is there; full: on a network without one; none: yours names our boot.ipxe"
    raise ServeError(f"--dhcp {text!r} is none of {', '.join(get_args(DhcpMode))}", hint=hint)


def parse_address(text: str, option: str) -> IPv4Address:
    """Raises ServeError, which names the option, for what is no IPv4 address."""
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise ServeError(f"{option} {text!r} is not an IPv4 address", hint="write it like 192.168.1.10") from None


def parse_port(text: str, option: str) -> int:
    """Raises ServeError, which names the option, for what is no TCP port; 0 is any that is free."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ServeError(f"{option} {text!r} is not a TCP port", hint="write a number from 1 to 65535")
    return int(text)


def parse_endpoint(text: str, option: str) -> Endpoint:
    """ADDRESS:PORT. Raises ServeError, which names the option, for anything else."""
    address, colon, port = text.rpartition(":")
    if not colon:
        raise ServeError(f"{option} {text!r} is not ADDRESS:PORT", hint="write it like 127.0.0.1:8088")
    return Endpoint(parse_address(address, option), parse_port(port, option))


def read_keys(file: str) -> str:
    """The public keys in a file, one a line; none where no file is named. Raises ServeError for a line that is none."""
    if not file:
        return ""
    try:
        lines = [line.strip() for line in Path(file).read_text().splitlines()]
    except OSError as e:
        raise ServeError(f"--authorized-keys {file}: {e.strerror}") from e
    keys = [line for line in lines if line and not line.startswith("#")]
    try:
        return "".join(f"{_KEYS.validate_python(key)}\n" for key in keys)
    except ValidationError as e:
        raise ServeError(f"--authorized-keys {file}: {e.errors()[0]['msg']}") from None
