"""What is in a built image, and what must not be."""

from __future__ import annotations

import _imp
import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import secrets
from config.door import run
from config.loader import Loaded
from images import disk, grub, manifest
from images.build import Artifacts
from images.disk import Identity
from images.manifest import Manifest
from images.packages import MASKED_UNITS, PACKAGES
from images.sources import KEYRING
from tests.image.conftest import Image


def test_the_disk_has_the_three_partitions(image: Image) -> None:
    table = json.loads(run(["sfdisk", "--json", image.raw]).stdout)["partitiontable"]
    assert table["label"] == "gpt"
    found = [(row["type"], row["start"] * 512, row["size"] * 512) for row in table["partitions"]]
    assert found == [(partition.type, partition.start, partition.size) for partition in disk.PARTITIONS]


def test_one_root_uuid_is_everywhere(image: Image, described: Manifest) -> None:
    uuid = described.root_uuid
    assert Identity.of(described.key).root == uuid
    assert re.search(rf"Filesystem UUID: +{uuid}", image.debugfs("stats -h"))
    assert f"UUID={uuid} / ext4" in image.text("/etc/fstab")
    assert f"search.fs_uuid {uuid}" in esp_file(image, "EFI/debian/grub.cfg").decode()
    config = image.text("/boot/grub/grub.cfg")
    assert set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", config)) == {uuid}
    assert "/dev/loop" not in config


def test_the_default_entry_is_xen(image: Image, described: Manifest) -> None:
    entry = grub.check_default_is_xen(image.text("/boot/grub/grub.cfg"), described.root_uuid, image.exists)
    assert entry.argument("multiboot2") == "/boot/xen-4.20-amd64.gz"
    assert described.kernel in " ".join(entry.arguments("module2"))


def test_update_grub_would_keep_xen_the_default(image: Image) -> None:
    assert "XEN_OVERRIDE_GRUB_DEFAULT=1" in image.text("/etc/default/grub.d/00-xenpair.cfg")
    assert "dom0_mem=1536M,max:1536M" in image.text("/etc/default/grub.d/00-xenpair.cfg")
    assert "GRUB_DISTRIBUTOR=Debian" in image.text("/etc/default/grub")


def test_a_bios_finds_boot_code(image: Image) -> None:
    with image.raw.open("rb") as f:
        sector = f.read(512)
        f.seek(disk.BIOS_BOOT.start)
        core = f.read(512)
    assert sector[:440].strip(b"\0")
    assert sector[510:] == b"\x55\xaa"
    assert struct.unpack_from("<Q", sector, 0x5C) == (disk.BIOS_BOOT.lba,)
    first, length, _ = struct.unpack_from("<QHH", core, 500)
    assert first == disk.BIOS_BOOT.lba + 1
    assert 0 < length * 512 < disk.BIOS_BOOT.size


@pytest.mark.parametrize("name", ["EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi"])
def test_a_uefi_finds_its_loader(image: Image, name: str) -> None:
    assert esp_file(image, name)[:2] == b"MZ"


def test_no_secret_of_the_cluster_is_anywhere_in_the_image(image: Image, loaded: Loaded) -> None:
    own = secrets.ensure(loaded.cluster, loaded.source.parent / "secrets")
    needles = [value.encode() for value in (own.authkeys, own.drbd, own.join, *own.bmc.values())]
    assert not [needle for data in stretches(image.raw) for needle in needles if needle in data]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/ha.d/authkeys",
        "/etc/resolv.conf",
        "/etc/xenpair",
        "/root/.ssh/authorized_keys",
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
        "/var/lib/xenpair",
        "/var/log/dpkg.log",
        "/etc/apt/apt.conf.d/99mmdebstrap",
    ],
)
def test_what_belongs_to_one_node_or_to_the_build_host_is_not_there(image: Image, path: str) -> None:
    assert not image.exists(path)


def test_there_are_no_host_keys_and_no_machine_id(image: Image) -> None:
    assert not [name for name in image.names("/etc/ssh") if name.startswith("ssh_host_")]
    assert image.read("/etc/machine-id") == b""


def test_no_caches_are_carried(image: Image) -> None:
    assert image.names("/var/lib/apt/lists") <= {"auxfiles", "lock", "partial"}
    assert image.names("/var/cache/apt/archives") <= {"lock", "partial"}
    assert image.names("/usr/share/man") <= {"man1", "man2", "man3", "man4", "man5", "man6", "man7", "man8"}


def test_root_has_no_password(image: Image) -> None:
    (root,) = [line for line in image.text("/etc/shadow").splitlines() if line.startswith("root:")]
    assert root.split(":")[1] in ("*", "!", "!*")


@pytest.mark.parametrize("unit", MASKED_UNITS)
def test_units_that_would_harm_are_masked(image: Image, unit: str) -> None:
    assert image.link(f"/etc/systemd/system/{unit}") == "/dev/null"


@pytest.mark.parametrize("unit", ["xenpair-firstboot.service", "systemd-networkd.service", "xen.service"])
def test_units_that_the_node_needs_are_enabled(image: Image, unit: str) -> None:
    assert unit in image.names("/etc/systemd/system/multi-user.target.wants")


def test_heartbeats_plugin_can_be_run(image: Image) -> None:
    assert "Mode:  0755" in image.debugfs("stat /usr/lib/stonith/plugins/external/xenpair")


def test_the_archive_is_bound_to_debians_keyring(image: Image, described: Manifest) -> None:
    text = image.text("/etc/apt/sources.list.d/debian.sources")
    assert text.count("URIs: ") == text.count(f"Signed-By: {KEYRING}") == 2
    assert image.exists(KEYRING)
    assert image.names("/etc/apt/sources.list.d") == {"debian.sources"}
    for name in image.names("/etc/apt/apt.conf.d"):
        assert "Acquire::Check" not in image.text(f"/etc/apt/apt.conf.d/{name}")
    assert all(f"signed-by={KEYRING}" in line for line in described.sources)


def test_systemd_has_no_caches_to_rebuild_at_the_first_boot(image: Image) -> None:
    usr = modified(image, "/usr")
    assert modified(image, "/etc/.updated") >= usr
    assert modified(image, "/var/.updated") >= usr


def test_the_nodes_python_is_compiled_and_the_caches_are_valid(image: Image, tmp_path: Path) -> None:
    tree = image.dump("/usr/lib/xenpair", tmp_path)
    sources = sorted(tree.rglob("*.py"))
    assert len(sources) > 20
    for source in sources:
        (cached,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        magic, flags, proof = struct.unpack_from("<LL8s", cached.read_bytes())
        # PEP 552: checked against the source's hash, which Python keys with its own magic number.
        assert (flags, proof) == (3, _imp.source_hash(magic, source.read_bytes())), source


def test_the_initramfs_is_one_and_carries_the_lvm_filter(image: Image, described: Manifest, tmp_path: Path) -> None:
    boot = image.names("/boot")
    assert [name for name in boot if name.startswith("initrd")] == [f"initrd.img-{described.kernel}"]
    files = initramfs_files(image.read(f"/boot/initrd.img-{described.kernel}"))
    own = image.read("/etc/lvm/lvm.conf")
    assert b"global_filter" in own
    assert files["etc/lvm/lvm.conf"] == own
    assert any(name.endswith("/fsck.ext4") for name in files)
    modules = {Path(name).name.partition(".ko")[0] for name in files if ".ko" in name}
    assert {"ext4", "ahci", "nvme", "megaraid_sas", "virtio_blk", "xen-blkfront"} <= modules


def test_the_initramfs_puts_together_a_mirrored_system_and_nothing_foreign(image: Image, described: Manifest) -> None:
    files = initramfs_files(image.read(f"/boot/initrd.img-{described.kernel}"))
    assert files["etc/mdadm/mdadm.conf"] == image.read("/etc/mdadm/mdadm.conf")
    assert b"POLICY auto=no" in files["etc/mdadm/mdadm.conf"]
    assert any(name.endswith("sbin/mdadm") for name in files)
    assert any(name.endswith("/64-md-raid-assembly.rules") for name in files)
    assert any(Path(name).name.startswith("raid1.ko") for name in files)
    assert [line for line in files["conf/modules"].decode().split() if "raid" in line] == ["raid1"]
    assert image.exists("/usr/lib/xenpair/mirror-event")


def test_everything_asked_for_is_in_the_manifest(described: Manifest, loaded: Loaded) -> None:
    assert set(PACKAGES) <= set(described.packages)
    assert {"xenpair-firstboot", "drbd-utils", "lvm2", "heartbeat"} <= set(described.packages)
    assert described.packages["xenpair-firstboot"] in " ".join(described.artifacts)
    assert described.config_hash == loaded.cluster.config_hash()
    assert described.warnings or any(name.startswith("firmware-") for name in described.packages)


def test_the_sums_are_right(artifacts: Artifacts, described: Manifest) -> None:
    out = artifacts.manifest.parent
    lines = (out / manifest.SUMS).read_text().splitlines()
    assert len(lines) == len(described.artifacts) + 1
    for line in lines:
        expected, name = line.split("  ")
        with (out / name).open("rb") as f:
            assert hashlib.file_digest(f, "sha256").hexdigest() == expected, name


def esp_file(image: Image, name: str) -> bytes:
    argv = ["mtype", "-i", f"{image.raw}@@{disk.ESP.start}", f"::{name}"]
    return subprocess.run(argv, capture_output=True, check=True).stdout


def stretches(sparse: Path) -> Iterator[bytes]:
    """What a sparse file really holds, stretch by stretch."""
    with sparse.open("rb") as f:
        end = 0
        while True:
            try:
                start = os.lseek(f.fileno(), end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(f.fileno(), start, os.SEEK_HOLE)
            f.seek(start)
            yield f.read(end - start)


def modified(image: Image, path: str) -> int:
    """Seconds since the epoch."""
    match = re.search(r"mtime: 0x([0-9a-f]+)", image.debugfs(f"stat {path}"))
    assert match is not None, path
    return int(match[1], 16)


def initramfs_files(data: bytes) -> dict[str, bytes]:
    """Path -> content of an initramfs: plain cpio archives, then one that is packed (initramfs-tools-core(7))."""
    files: dict[str, bytes] = {}
    while data:
        if data.startswith(b"070701"):
            data = cpio(data, files).lstrip(b"\0")
        elif data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        else:
            if shutil.which("zstd") is None:
                pytest.skip("needs zstd to look into the initramfs")
            data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return files


def cpio(data: bytes, files: dict[str, bytes]) -> bytes:
    """Read one newc archive (cpio(5)) into files; what follows it."""
    at = 0
    while True:
        size, name_size = int(data[at + 54 : at + 62], 16), int(data[at + 94 : at + 102], 16)
        name = data[at + 110 : at + 109 + name_size].decode()
        content = (at + 110 + name_size + 3) & ~3
        at = (content + size + 3) & ~3
        if name == "TRAILER!!!":
            return data[at:]
        files[name.removeprefix("./")] = data[content : content + size]
