"""Which version of each package came from where, for the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from config.debian import Repository
from images.debs import uri_here
from images.pool import Pool

_PACKAGE = re.compile(r"^(\S+):\n", re.MULTILINE)
_VERSION = re.compile(r"^ (?:\*\*\*|   ) (\S+) -?\d+\n((?: {8,}.*\n?)+)", re.MULTILINE)
_PLACE = re.compile(r"^ +-?\d+ (\S+) ([^\s/]+)\S*(?: \S+)? Packages$", re.MULTILINE)
"""Lines of apt-cache(8)'s policy: a package, a version of it, and the archive and suite of an index that lists that."""


def origins(
    policy: str, packages: Mapping[str, str], archives: Iterable[Repository], pools: Iterable[Pool]
) -> dict[str, str]:
    """Package -> where the version that packages says came from, of `apt-cache policy` of all of them.

    Debian's archive is told by the suite, archives of others with their address, too.
    """
    ours = {pool.uri: pool.origins for pool in pools}
    foreign = {uri_here(archive): archive.uri for archive in archives}
    _, *parts = _PACKAGE.split(policy)
    found = {}
    for package, table in zip(parts[::2], parts[1::2], strict=True):
        indexes = dict(_VERSION.findall(table)).get(packages.get(package, ""), "")
        for uri, suite in _PLACE.findall(indexes)[:1]:
            elsewhere = f"{foreign[uri]} {suite}" if uri in foreign else suite
            found[package] = ours[uri][package] if uri in ours else elsewhere
    return found


def unused(pools: Iterable[Pool], packages: Mapping[str, str]) -> list[str]:
    """A warning for each package of a pool that is installed in another version, because that one is newer."""
    return [
        f"{name} {version}, {pool.origins[name]}, is not used: {packages[name]} is newer"
        for pool in pools
        for name, version in pool.versions.items()
        if packages.get(name, version) != version
    ]
