"""What the dom0 is made of: how it is written, and the files of the build host that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.carried import check_files
from config.debian import Backport, Debian, Debs, Repository
from config.debian_files import located, on_this_host, source_files
from config.loader import load

EXAMPLE = Path("config/cluster.yaml").read_text(encoding="utf-8")
FINGERPRINT = "4158 7F7D B8C7 74BC CF13  1416 762F 67A0 B2C3 9DE4"
DSC = """\
Format: 3.0 (quilt)
Source: xen-tools
Version: 4.9.2-1
Checksums-Sha1:
 0f4c5ce3bc6ba4e4ec8a5b2f0ad3d4d86a4bd0b7 275894 xen-tools_4.9.2.orig.tar.gz
Checksums-Sha256:
 c9102b547f401059213f7774dc4678122e18a6b54e82f6ff807816a08f0710d4 275894 xen-tools_4.9.2.orig.tar.gz
 604cc4e1aa5ac471d9052d1d9d72f3280a63677f82313bfe0d715a843ec38fdf 32876 xen-tools_4.9.2-1.debian.tar.xz
Files:
 ea349d021fbb2482520cd4820ca08f88 275894 xen-tools_4.9.2.orig.tar.gz
 3e5f80679ce617ff7e9333d2dbe09fb1 32876 xen-tools_4.9.2-1.debian.tar.xz
"""
"""Debian's, shortened."""


def faults(directory: Path, debian: str) -> list[str]:
    file = directory / "cluster.yaml"
    file.write_text(EXAMPLE.replace("  packages: [xen-tools]", f"  packages: [xen-tools]\n  {debian}", 1))
    return [f"{finding.path}: {finding.problem}" for finding in check_files(load(file))]


def with_source(directory: Path, package: str, source: str) -> list[str]:
    file = directory / "cluster.yaml"
    backport = f"{{package: {package}, source: {source}}}"
    text = EXAMPLE.replace("    - {package: drbd-utils, rebuild: false}\n", "")
    file.write_text(text.replace("{package: xen-tools, rebuild: false}", backport))
    return [f"{finding.path}: {finding.problem}" for finding in check_files(load(file))]


def repository(**keys: object) -> Repository:
    values = {"uri": "https://packages.example.org/debian/", "suite": "trixie", "key": "vendor.asc"}
    return Repository.model_validate({**values, "fingerprint": FINGERPRINT, **keys})


def test_an_address_and_a_fingerprint_are_kept_as_apt_and_gpg_write_them() -> None:
    assert repository().uri == "https://packages.example.org/debian"
    assert repository(uri="file:///srv/debian/").uri == "file:/srv/debian"
    assert repository().fingerprint == FINGERPRINT.replace(" ", "")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("uri", "https://user:secret@packages.example.org/", "without user name or password"),
        ("uri", "copy:/srv/debian", "not the plain address of an archive"),
        ("uri", "https://packages.example.org/debian trixie", "not the plain address of an archive"),
        ("fingerprint", "B2C39DE4", "'B2C39DE4' is not a whole fingerprint; write all 40 hex digits"),
        ("suite", "./", "should match pattern"),
        ("key", "a key.asc", "is not a plain path"),
    ],
)
def test_what_apt_would_misread_is_refused(key: str, value: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as e:
        repository(**{key: value})
    assert "user:secret" not in e.value.errors()[0]["msg"]


def test_paths_count_from_the_configs_directory(tmp_path: Path) -> None:
    debian = Debian(
        backports=(Backport(package="sl", source="sl_5.02-1.dsc"), Backport(package="xen-tools")),
        debs=Debs.model_validate({"files": [{"path": "debs/drbd.deb"}, {"path": "/srv/drbd.deb"}]}),
    )
    found = located(debian, tmp_path)
    assert [wanted.source for wanted in found.backports] == [f"{tmp_path}/sl_5.02-1.dsc", None]
    assert [file.path for file in found.debs.files] == [f"{tmp_path}/debs/drbd.deb", "/srv/drbd.deb"]


def test_the_hash_of_a_config_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    (file := tmp_path / "cluster.yaml").write_text(EXAMPLE)
    loaded = load(file)
    assert on_this_host(loaded).config_hash() == loaded.cluster.config_hash()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    key = f"{{uri: 'https://example.org/debian', suite: x, key: vendor.asc, fingerprint: {FINGERPRINT}}}"
    assert faults(tmp_path, f"debs: {{files: [{{path: drbd.deb}}], repositories: [{key}]}}") == [
        f"debian.debs.files[0].path: {tmp_path}/drbd.deb does not exist",
        f"debian.debs.repositories[0].key: {tmp_path}/vendor.asc does not exist",
    ]
    (tmp_path / "drbd.deb").mkdir()
    assert faults(tmp_path, "debs: {files: [{path: drbd.deb}]}") == [
        f"debian.debs.files[0].path: {tmp_path}/drbd.deb is a directory"
    ]


def test_a_dsc_is_of_its_package_and_has_its_files_beside_it(tmp_path: Path) -> None:
    dsc = tmp_path / "xen-tools.dsc"
    dsc.write_text(DSC)
    tar, changes = source_files(dsc)
    assert (tar.name, changes.name) == ("xen-tools_4.9.2.orig.tar.gz", "xen-tools_4.9.2-1.debian.tar.xz")
    tar.touch()
    assert with_source(tmp_path, "xen-tools", dsc.name) == [
        f"debian.backports[0].source: xen-tools.dsc names a file that is not there: {changes}"
    ]
    assert "is the source of xen-tools, not of drbd-utils" in with_source(tmp_path, "drbd-utils", dsc.name)[0]


def test_a_source_tree_has_a_changelog_of_its_package(tmp_path: Path) -> None:
    (tree := tmp_path / "tree").mkdir()
    assert with_source(tmp_path, "drbd-utils", "tree")[0].endswith("tree/debian/changelog does not exist")
    (tree / "debian").mkdir()
    (tree / "debian/changelog").write_text("drbd-utils (9.31.0-1) unstable; urgency=medium\n")
    assert with_source(tmp_path, "drbd-utils", "tree") == []
    (tree / "debian/changelog").write_text("something else\n")
    assert "neither a .dsc nor a directory" in with_source(tmp_path, "drbd-utils", "tree")[0]
