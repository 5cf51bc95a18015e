"""Packages as files: read, and written again with nothing compressed in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.door import run
from images import debfile
from images.errors import BuildError

pytestmark = pytest.mark.usefixtures("real_programs")

CONTROL = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\nDescription: tiny\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree that dpkg-deb makes a package of."""
    tree = tmp_path / "root"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL)
    (tree / "usr/share/tiny").mkdir(parents=True)
    (tree / "usr/share/tiny/text").write_text("odd\n" * 25_001)
    (tree / "usr/share/tiny/link").symlink_to("text")
    return tree


def packed(root: Path, compression: str) -> Path:
    deb = root.parent / f"{compression}.deb"
    run(["dpkg-deb", "--root-owner-group", f"-Z{compression}", "--build", root, deb])
    return deb


@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_an_unpacked_package_is_the_same_package(root: Path, compression: str) -> None:
    deb, target = packed(root, compression), root.parent / "unpacked.deb"
    debfile.unpacked(deb, target)
    for request in ("--contents", "--field"):
        assert run(["dpkg-deb", request, target]).stdout == run(["dpkg-deb", request, deb]).stdout
    for path in (deb, target):
        run(["dpkg-deb", "--extract", path, root.parent / path.stem])
    assert run(["diff", "-r", root.parent / compression, root.parent / "unpacked"]).stdout == ""


def test_xz_is_gone_from_an_unpacked_package(root: Path) -> None:
    target = root.parent / "unpacked.deb"
    debfile.unpacked(packed(root, "xz"), target)
    assert target.stat().st_size > 100_000
    assert b"data.tar " in target.read_bytes()
    assert b".xz" not in target.read_bytes()


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd", "none"])
def test_the_control_paragraph_is_read_whatever_it_is_packed_with(root: Path, compression: str) -> None:
    assert debfile.control(packed(root, compression)) == CONTROL


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    deb = tmp_path / "no.deb"
    deb.write_text("<html>not found</html>")
    with pytest.raises(BuildError, match=r"no\.deb is no Debian package"):
        debfile.control(deb)
