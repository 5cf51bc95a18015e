"""The bill of materials names every installed package, and is the same for the same image."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from config.door import run
from images import dpkg, sbom
from images.jobs import REPOSITORY

KEY = "0123456789abcdef0123456789abcdef"
SHA256 = "11" * 32


def text(captured: Path, **values: Any) -> str:
    arguments = {"suite": "trixie", "key": KEY, "version": "0.1.0", "date": 1767323045, "sha256": {}, **values}
    return sbom.document(dpkg.installed((captured / "dpkg-status.txt").read_text()), **arguments)


@pytest.fixture
def components(captured: Path) -> dict[str, dict[str, Any]]:
    document = json.loads(text(captured, sha256={"xenpair-firstboot": SHA256}))
    return {component["name"]: component for component in document["components"]}


def test_a_package_is_told_with_its_source_its_maker_and_a_purl(components: dict[str, dict[str, Any]]) -> None:
    grub = components["grub2-common"]
    assert grub["version"] == "2.12-9+deb13u4"
    assert grub["purl"] == "pkg:deb/debian/grub2-common@2.12-9%2Bdeb13u4?arch=amd64&distro=trixie"
    assert grub["supplier"]["name"] == "GRUB Maintainers"
    (source,) = grub["pedigree"]["ancestors"]
    assert source["purl"] == "pkg:deb/debian/grub2@2.12-9%2Bdeb13u4?arch=source&distro=trixie"
    (kernel,) = components["linux-image-amd64"]["pedigree"]["ancestors"]
    assert (kernel["name"], kernel["version"]) == ("linux-signed-amd64", "6.12.118+1")


def test_only_what_is_installed_is_in_it(components: dict[str, dict[str, Any]]) -> None:
    assert len(components) == 7
    assert "libgone" not in components


def test_our_own_package_is_not_told_as_debians_and_has_its_hash(components: dict[str, dict[str, Any]]) -> None:
    own = components["xenpair-firstboot"]
    assert own["purl"].startswith("pkg:deb/xenpair/xenpair-firstboot@")
    assert own["hashes"] == [{"alg": "SHA-256", "content": SHA256}]
    assert "hashes" not in components["drbd-utils"]


def test_the_same_image_has_the_same_text_and_another_one_another_serial_number(captured: Path) -> None:
    assert text(captured) == text(captured)
    first, second = (json.loads(text(captured, key=key)) for key in (KEY, KEY[::-1]))
    assert first["serialNumber"] != second["serialNumber"]
    assert first["metadata"]["timestamp"] == "2026-01-02T03:04:05+00:00"


def test_a_build_that_describes_nothing_does_not_pay_for_the_library(real_programs: None) -> None:
    program = "import sys, tasks, images.build; sys.exit('cyclonedx' in sys.modules)"
    run([sys.executable, "-c", program], cwd=REPOSITORY)
