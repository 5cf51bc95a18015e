"""Where each package came from, read off apt's policy; and pools that apt can verify."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from config.debian import Repository
from images import pool
from images.origins import origins, unused
from images.pool import Pool, release_file

INDEX = """\
Package: drbd-utils
Source: drbd
Architecture: amd64
Version: 9.22.0-1.2
Filename: ./drbd-utils_9.22.0-1.2_amd64.deb

Package: xen-tools
Version: 4.9.2-1
Architecture: all
"""
"""From dpkg-scanpackages, shortened."""


@pytest.fixture
def policy(captured: Path) -> str:
    return (captured / "apt-cache-policy.txt").read_text()


def the_pool(directory: Path = Path("/cache/pool")) -> Pool:
    known = {"drbd-utils": "rebuilt from drbd-utils 9.22.0-1.2 of sid", "xen-tools": "taken from sid"}
    return Pool(directory, Path("/cache/keys/pool.gpg"), {**known, "hello-dkms": "file hello.deb"})


def test_a_package_came_from_the_archive_that_has_its_version(policy: str) -> None:
    packages = {"drbd-utils": "9.22.0-1.2", "xen-tools": "4.9.2-1", "linux-image-amd64": "6.12.118-1", "gone": "1"}
    assert origins(policy, packages, [], [the_pool()]) == {
        "drbd-utils": "rebuilt from drbd-utils 9.22.0-1.2 of sid",
        "xen-tools": "taken from sid",
        "linux-image-amd64": "trixie-security",
    }
    older = {"drbd-utils": "9.22.0-1.1", "linux-image-amd64": "6.12.117-1"}
    assert set(origins(policy, older, [], [the_pool()]).values()) == {"trixie"}


def test_another_archive_is_told_with_its_address(policy: str) -> None:
    vendor = Repository(uri="file:///srv/vendor", suite="trixie", key="vendor.asc", fingerprint="A" * 40)
    only = policy.replace("        500 copy:/cache/pool ./ Packages\n", "")
    found = origins(only, {"hello-dkms": "1.0-1"}, [vendor], [the_pool()])
    assert found == {"hello-dkms": "file:/srv/vendor trixie"}


def test_a_package_that_was_brought_in_vain_is_told(tmp_path: Path) -> None:
    (tmp_path / "Packages").write_text(INDEX)
    ours = the_pool(tmp_path)
    assert unused([ours], {"drbd-utils": "9.22.0-1.2"}) == []
    assert unused([ours], {"drbd-utils": "9.23.0-1"}) == [
        "drbd-utils 9.22.0-1.2, rebuilt from drbd-utils 9.22.0-1.2 of sid, is not used: 9.23.0-1 is newer"
    ]


def test_a_pools_index_gives_its_versions(tmp_path: Path) -> None:
    (tmp_path / "Packages").write_text(INDEX)
    assert pool.versions(tmp_path) == {"drbd-utils": "9.22.0-1.2", "xen-tools": "4.9.2-1"}


def test_a_release_file_pins_the_index() -> None:
    text = release_file(INDEX)
    assert f"SHA256:\n {hashlib.sha256(INDEX.encode()).hexdigest()} {len(INDEX)} Packages\n" in text
