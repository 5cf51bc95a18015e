"""What the installer is told on the kernel's command line."""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from firstboot.errors import InstallError

HINT = "boot from the medium or the boot script that `invoke build-image` or `invoke serve` has made, unchanged"


@dataclass(frozen=True)
class FromMedium:
    """All that is needed lies on a medium; label: of its file system."""

    label: str


@dataclass(frozen=True)
class FromServer:
    """A server on the network has it. pin: sha256 (hex) of its certificate; image: URL of the directory of the image.

    card: MAC address of the card that the firmware has booted by, which gets that address, and that gateway if any.
    """

    url: str
    pin: str
    image: str
    address: str
    gateway: str
    card: str


@dataclass(frozen=True)
class Arguments:
    """Where the installation comes from, and whether the floor is measured before it."""

    origin: FromMedium | FromServer
    bench: bool = False


def parse_arguments(command_line: str) -> Arguments:
    """From /proc/cmdline. Raises InstallError where it is not clear where to install from."""
    try:
        words = [word.partition("=") for word in shlex.split(command_line)]
    except ValueError as e:
        raise InstallError(
            f"the kernel's command line cannot be taken apart: {e}: {command_line.strip()}", hint=HINT
        ) from e
    given = {key: value for key, _, value in words if key.startswith("xenpair.")}
    return Arguments(_origin(given), bench="xenpair.bench" in given)


def _origin(given: dict[str, str]) -> FromMedium | FromServer:
    if label := given.get("xenpair.medium"):
        return FromMedium(label)
    if "xenpair.server" not in given:
        raise InstallError("neither xenpair.medium= nor xenpair.server= on the kernel's command line", hint=HINT)
    missing = [key for key in ("pin", "image", "ip") if not given.get(f"xenpair.{key}")]
    if missing:
        raise InstallError(
            f"xenpair.server= without {', '.join(f'xenpair.{key}=' for key in missing)} on the kernel's command line",
            hint=HINT,
        )
    url, pin, image = given["xenpair.server"], given["xenpair.pin"].lower().replace(":", ""), given["xenpair.image"]
    if not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise _wrong("pin", given, "64 hexadecimal digits: the sha256 of the server's certificate")
    if not _is_url(url, "https"):
        raise _wrong("server", given, "https://ADDRESS:PORT")
    if not _is_url(image, "http"):
        raise _wrong("image", given, "http://ADDRESS:PORT/image")
    return FromServer(url.rstrip("/"), pin, image.rstrip("/"), *_network(given))


def _network(given: dict[str, str]) -> tuple[str, str, str]:
    """Address with prefix length, gateway or nothing, MAC address."""
    try:
        address, gateway, card = given["xenpair.ip"].split(",")
        if "/" not in address:
            raise ValueError("an address without its netmask")
        interface = ipaddress.IPv4Interface(address)
        via = str(ipaddress.IPv4Address(gateway)) if gateway else ""
    except ValueError:
        raise _wrong("ip", given, "ADDRESS/NETMASK,GATEWAY,MAC, where the gateway may be empty") from None
    mac = card.lower().replace("-", ":")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise _wrong("ip", given, "ADDRESS/NETMASK,GATEWAY,MAC, with a MAC address like 52:54:00:10:32:01")
    return str(interface), via, mac


def _is_url(text: str, scheme: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme == scheme and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _wrong(key: str, given: dict[str, str], right: str) -> InstallError:
    said = f"xenpair.{key}={given[f'xenpair.{key}']}"
    return InstallError(f"{said} on the kernel's command line is not {right}", hint=HINT)
