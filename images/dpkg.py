"""What dpkg's status file says is installed."""

from __future__ import annotations

import re
from dataclasses import dataclass

STATUS = "/var/lib/dpkg/status"
_FIELDS = re.compile(r"^(Package|Status|Version|Architecture|Source|Maintainer): (.+)$", re.MULTILINE)
_SOURCE = re.compile(r"(?P<name>\S+)(?: \((?P<version>\S+)\))?")


@dataclass(frozen=True)
class Package:
    """An installed Debian package, and the source package that it was built from."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    maintainer: str


def installed(status: str) -> tuple[Package, ...]:
    """The installed packages of a status file, by name and architecture."""
    found = (_package(dict(_FIELDS.findall(paragraph))) for paragraph in status.split("\n\n"))
    return tuple(sorted((package for package in found if package), key=lambda p: (p.name, p.architecture)))


def versions(status: str) -> dict[str, str]:
    """Package -> version of what is installed."""
    return {package.name: package.version for package in installed(status)}


def _package(fields: dict[str, str]) -> Package | None:
    if not fields.get("Status", "").endswith(" installed"):
        return None
    name, version = fields["Package"], fields["Version"]
    # Left out where the source has the same name, or the same version (deb-control(5), Source).
    source = _SOURCE.fullmatch(fields.get("Source", name))
    return Package(
        name=name,
        version=version,
        architecture=fields.get("Architecture", ""),
        source=source["name"] if source else name,
        source_version=(source["version"] if source else None) or version,
        maintainer=fields.get("Maintainer", ""),
    )
