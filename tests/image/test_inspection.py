"""The built image, as `invoke inspect`, `invoke diff`, `invoke verify-artifacts` and its bill of materials tell it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from config.door import run
from config.loader import Loaded
from images import deb, disk, verify
from images.build import Artifacts
from images.cache import Cache
from images.inspection import command, difference
from images.inspection.disk import opened
from images.inspection.report import Inspection, inspect
from images.manifest import SBOM, Manifest
from tests.image.conftest import CACHE, OUT, Image


def look(image: Path) -> Inspection:
    with opened(image, Cache(CACHE)) as disk:
        return inspect(image, disk)


@pytest.fixture(scope="module")
def found(artifacts: Artifacts) -> Inspection:
    assert artifacts.qcow2 is not None
    return look(artifacts.qcow2)


def test_the_disk_is_told_as_it_was_made(found: Inspection, described: Manifest) -> None:
    assert (found.format, found.table, found.size) == ("qcow2", "gpt", disk.DISK_SIZE)
    made = [(partition.name, partition.start, partition.size) for partition in disk.PARTITIONS]
    assert [(partition.name, partition.start, partition.size) for partition in found.partitions] == made
    assert [partition.filesystem for partition in found.partitions] == ["", "vfat", "ext4"]
    assert found.partitions[-1].filesystem_uuid == described.root_uuid
    assert found.firmware == ("BIOS", "UEFI")
    assert not found.unknown


def test_the_default_entry_is_told_as_xen_with_its_kernel(found: Inspection, described: Manifest) -> None:
    (default,) = [entry for entry in found.entries if entry.default]
    assert default.loads[0].startswith("multiboot2 /boot/xen-")
    assert described.kernel in default.loads[1]


def test_the_packages_are_those_of_the_manifest(found: Inspection, described: Manifest) -> None:
    assert {package.name: package.version for package in found.packages} == described.packages
    told = {package.name for package in found.important}
    assert {deb.NAME, "drbd-utils", "heartbeat", f"linux-image-{described.kernel}"} <= told


def test_what_xenpair_baked_in_is_told(found: Inspection, described: Manifest) -> None:
    assert found.xenpair is not None
    assert found.xenpair.version == described.packages[deb.NAME]
    assert "/usr/bin/xenpair" in found.xenpair.files
    assert "/usr/lib/xenpair" not in found.xenpair.files
    assert "/etc/fstab" in found.xenpair.settings
    assert {"xenpair-firstboot.service", "heartbeat.service"} <= set(found.xenpair.enabled)
    assert "xendomains.service" in found.xenpair.masked


def test_a_medium_is_told_by_the_image_that_it_installs(
    artifacts: Artifacts, found: Inspection, described: Manifest
) -> None:
    assert artifacts.iso is not None
    medium = look(artifacts.iso)
    assert medium.medium is not None
    assert medium.medium.key == described.key
    assert any("boot=xenpair" in line for line in medium.medium.entries[0].loads)
    assert medium.packages == found.packages


def test_a_disk_and_the_medium_that_installs_it_are_the_same(
    artifacts: Artifacts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert artifacts.qcow2 is not None
    assert artifacts.iso is not None
    assert command.diff(artifacts.qcow2, artifacts.iso, cache=CACHE, json=False) == 0
    assert capsys.readouterr().out == "the same (but for times)\n"


def test_what_was_changed_in_an_image_is_told_and_nothing_else(
    image: Image, described: Manifest, tmp_path: Path
) -> None:
    other = tmp_path / "other.raw"
    run(["cp", "--sparse=always", image.raw, other])
    status, old = tmp_path / "status", described.packages[deb.NAME]
    status.write_text(image.text("/var/lib/dpkg/status").replace(f"\nVersion: {old}\n", "\nVersion: 9:9\n"))
    for request in (
        "rm /etc/hosts",
        "sif /etc/fstab mode 0100600",
        f"write {status} /etc/added",
        "rm /var/lib/dpkg/status",
        f"write {status} /var/lib/dpkg/status",
    ):
        run(["debugfs", "-w", "-R", request, f"{other}?offset={disk.ROOT.start}"])
    with opened(image.raw, Cache(CACHE)) as before, opened(other, Cache(CACHE)) as after:
        found = difference.compare(before, after)
    assert not found.disk
    assert found.packages == (difference.Change(what=deb.NAME, old=old, new="9:9"),)
    signs = {change.path: (change.old is not None, change.new is not None) for change in found.files}
    assert signs == {
        "/etc/added": (False, True),
        "/etc/fstab": (True, True),
        "/etc/hosts": (True, False),
        "/var/lib/dpkg/status": (True, True),
    }


def test_what_was_built_is_what_was_signed(artifacts: Artifacts, loaded: Loaded) -> None:
    assert artifacts.built is not None
    verdicts = list(verify.verdicts(OUT, loaded.source.parent / "secrets"))
    assert [verdict for verdict in verdicts if verdict.off] == []
    assert {SBOM, "xenpair.qcow2", "netboot/vmlinuz", "manifest.json"} <= {verdict.name for verdict in verdicts}


def test_one_changed_byte_is_found(artifacts: Artifacts, loaded: Loaded, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(OUT, out, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("*.qcow2", "*.raw", "*.iso"))
    with (out / SBOM).open("r+b") as f:
        f.seek(100)
        f.write(b"\0")
    off = [verdict.name for verdict in verify.verdicts(out, loaded.source.parent / "secrets") if verdict.off]
    assert {SBOM, "xenpair.qcow2"} == set(off) - {"xenpair.raw"}


def test_the_bill_of_materials_names_every_package(artifacts: Artifacts, described: Manifest) -> None:
    document = json.loads((OUT / SBOM).read_text())
    assert {part["name"]: part["version"] for part in document["components"]} == described.packages
    assert all(part["purl"].startswith("pkg:deb/") for part in document["components"])
    (own,) = [part for part in document["components"] if part["name"] == deb.NAME]
    assert own["hashes"] == [{"alg": "SHA-256", "content": described.artifacts[artifacts.deb.name].sha256}]
    assert all("hashes" in part for part in document["components"])
    assert document["metadata"]["component"]["version"] == described.key
