"""The software bill of materials of an image, in CycloneDX 1.6: every Debian package that is installed in it.

Importing this takes a moment: whoever needs it imports it when there is something to describe.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parseaddr

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from images.dpkg import Package

_OURS = "xenpair"
"""In the name or in the version of a package that is not Debian's as it is (see images.backport)."""


def document(
    packages: Iterable[Package], *, suite: str, key: str, version: str, date: int, sha256: Mapping[str, str]
) -> str:
    """The document as JSON; the same text for the same arguments.

    key: the image's content key, of which the serial number is made; version: of xenpair; date: seconds since the
    epoch; sha256 (hex): of the .deb files, by package, as far as they are known.
    """
    image = Component(name="xenpair dom0 image", version=key, type=ComponentType.OPERATING_SYSTEM, bom_ref="image")
    bom = Bom(
        serial_number=uuid.uuid5(uuid.UUID(key), "sbom"),
        metadata=BomMetaData(
            component=image,
            timestamp=datetime.fromtimestamp(date, UTC),
            tools=ToolRepository(components=[Component(name="xenpair", version=version, bom_ref="xenpair")]),
        ),
        components=[_component(package, suite, sha256.get(package.name)) for package in packages],
    )
    bom.register_dependency(image, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(package: Package, suite: str, sha256: str | None) -> Component:
    purl = _purl(package.name, package.version, suite, package.architecture)
    source = _purl(package.source, package.source_version, suite, "source")
    ancestor = Component(name=package.source, version=package.source_version, purl=source)
    name, _ = parseaddr(package.maintainer)
    return Component(
        name=package.name,
        version=package.version,
        purl=purl,
        bom_ref=purl.to_string(),
        supplier=OrganizationalEntity(name=name) if name else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else None,
        pedigree=Pedigree(ancestors=[ancestor]),
    )


def _purl(name: str, version: str, suite: str, architecture: str) -> PackageURL:
    """As the purl specification has it for deb, whose namespace is who makes the package."""
    vendor = _OURS if _OURS in name or _OURS in version else "debian"
    return PackageURL("deb", vendor, name, version, {"arch": architecture, "distro": suite})
