"""What installs the image: the payload, the installer's initramfs, the ISO and the netboot tree."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from config.door import Output, run
from config.loader import Loaded
from config.payload import IMAGE, INDEX, SIGNATURE, SIGNATURE_NAMESPACE, SIGNER, Index, parse_index
from images import iso, manifest, rootfs, seed, signing
from images.build import Artifacts, build_image
from images.cache import Cache
from images.disk import ROOT
from images.disklayer import PAYLOAD, TREE
from images.installer import BOOTED, Request
from images.iso import LABEL, Medium
from images.makeinstaller import PROGRAMS
from images.manifest import Manifest
from images.namespace import isolated
from tests.image import initramfs
from tests.image.conftest import CACHE, Image, Said
from tests.image.test_building import state

LIMIT = 100 * 10**6
"""Bytes that a machine loads before the image."""


@pytest.fixture(scope="module")
def out(artifacts: Artifacts) -> Path:
    return artifacts.manifest.parent


@pytest.fixture(scope="module")
def index(out: Path) -> Index:
    return parse_index((out / PAYLOAD / INDEX).read_bytes(), INDEX)


@pytest.fixture(scope="module")
def root(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the kernel makes of the initramfs and the installer's archive."""
    path = tmp_path_factory.mktemp("initramfs")
    for name in BOOTED[1:]:
        initramfs.unpack((out / TREE / name).read_bytes(), path)
    return path


@pytest.fixture(scope="module")
def medium(artifacts: Artifacts, described: Manifest, out: Path) -> Medium:
    assert artifacts.iso is not None
    return Medium(artifacts.iso, out, described, artifacts.seed)


def in_root(root: Path, *argv: str) -> Output:
    """Run a program as the booted installer would; /dev is empty but for null."""
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev/null").touch()
    environment = {"PYTHONPATH": "/usr/lib/xenpair", "PYTHONDONTWRITEBYTECODE": "1"}
    return run(isolated(["chroot", root, *argv]), check=False, env=environment, timeout=60)


def test_the_payload_is_the_image(index: Index, out: Path, image: Image, described: Manifest) -> None:
    assert (index.key, index.root_uuid, index.root_start) == (described.key, described.root_uuid, ROOT.start)
    assert index.disk_size == image.raw.stat().st_size
    unpacker = zstandard.ZstdDecompressor()
    with image.raw.open("rb") as raw, (out / PAYLOAD / IMAGE).open("rb") as packed:
        for piece in index.pieces:
            frame = packed.read(piece.packed_size)
            assert hashlib.sha256(frame).hexdigest() == piece.sha256
            raw.seek(piece.at)
            assert unpacker.decompress(frame) == raw.read(piece.size), piece
        for at, length in index.holes():
            raw.seek(at)
            assert not any(raw.read(1 << 20).strip(b"\0") for _ in range(0, length, 1 << 20)), (at, length)


@pytest.mark.parametrize(
    ("text", "signature"),
    [(f"{PAYLOAD}/{INDEX}", f"{PAYLOAD}/{SIGNATURE}"), (manifest.SUMS, manifest.SUMS_SIGNATURE)],
)
def test_an_administrator_can_check_the_signatures(out: Path, text: str, signature: str) -> None:
    options: list[str | Path] = [
        "-f",
        out / signing.SIGNERS,
        "-I",
        SIGNER,
        "-n",
        SIGNATURE_NAMESPACE,
        "-s",
        out / signature,
    ]
    assert "Good" in run(["ssh-keygen", "-Y", "verify", *options], stdin=(out / text).read_text()).stdout


def test_what_is_loaded_before_the_image_is_small(out: Path) -> None:
    assert sum((out / TREE / name).stat().st_size for name in BOOTED) < LIMIT


def test_the_netboot_tree_is_whole_and_holds_no_secret(out: Path, loaded: Loaded) -> None:
    files = {str(path.relative_to(out / TREE)) for path in (out / TREE).rglob("*") if path.is_file()}
    payload = {f"image/{name}" for name in (INDEX, SIGNATURE, IMAGE)}
    assert files == {*BOOTED, "undionly.kpxe", "snponly.efi", *payload}
    described = manifest.read(out)
    assert described is not None
    assert {f"{TREE}/{name}" for name in files} <= described.artifacts.keys()


def test_the_kernel_and_the_initramfs_are_the_dom0s(out: Path, image: Image, described: Manifest) -> None:
    assert (out / TREE / "vmlinuz").read_bytes() == image.read(f"/boot/vmlinuz-{described.kernel}")
    assert (out / TREE / "initrd.img").read_bytes() == image.read(f"/boot/initrd.img-{described.kernel}")


def test_the_installers_python_runs_in_its_initramfs(root: Path) -> None:
    modules = (
        "pydantic, yaml, ssl, http.client, email, urllib.request, hashlib, ctypes, json, config.model, config.loader"
    )
    done = in_root(root, "/usr/bin/python3", "-c", f"import {modules}; print(config.model.__file__)")
    assert done.stdout == "/usr/lib/xenpair/config/model.py\n", done.stderr


def test_all_of_its_python_is_compiled_and_nothing_is_compared_with_its_source(root: Path) -> None:
    ours = [path for package in ("config", "firstboot") for path in (root / "usr/lib/xenpair" / package).rglob("*.py")]
    caches = [path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in ours]
    caches += [path for path in (root / "usr/lib").glob("python3*/**/*.pyc") if "__pycache__" not in path.parts]
    assert len(caches) > 500
    # PEP 552: hash-based, and not checked.
    assert not [cache for cache in caches if cache.read_bytes()[4:8] != bytes([1, 0, 0, 0])]
    assert not list((root / "usr/lib/python3").rglob("*.py"))


@pytest.mark.parametrize("program", [*PROGRAMS, "udevadm", "modprobe", "lvm", "e2fsck"])
def test_each_program_has_its_libraries(root: Path, program: str) -> None:
    places = [f"/usr/{directory}/{program}" for directory in ("sbin", "bin")]
    found = [place for place in places if (root / place[1:]).exists()]
    if not found and program == "mdadm":
        pytest.skip("the image has no mdadm")
    assert found
    done = in_root(root, "/lib64/ld-linux-x86-64.so.2", "--list", found[0])
    assert done.returncode == 0, done.stderr
    assert "not found" not in done.stdout


def test_a_signature_can_be_checked_in_its_initramfs(root: Path, out: Path) -> None:
    for name in (INDEX, SIGNATURE):
        shutil.copy(out / PAYLOAD / name, root)
    options = f"-f /etc/xenpair/{signing.SIGNERS} -I {SIGNER} -n {SIGNATURE_NAMESPACE} -s /{SIGNATURE}"
    done = in_root(root, "/bin/sh", "-c", f"ssh-keygen -Y verify {options} < /{INDEX}")
    assert done.returncode == 0, done.stderr


def test_the_index_of_modules_is_that_of_the_modules_which_are_there(root: Path, described: Manifest) -> None:
    directory = root / "usr/lib/modules" / described.kernel
    rows = [line.partition(":") for line in (directory / "modules.dep").read_text().splitlines()]
    there = {str(path.relative_to(directory)) for path in directory.rglob("*.ko*")}
    assert {module for module, _, _ in rows} == there
    assert {need for _, _, needs in rows for need in needs.split()} <= there
    names = {Path(name).name.partition(".ko")[0] for name in there}
    assert {"e1000e", "igb", "ixgbe", "i40e", "ice", "tg3", "bnxt_en", "mlx5_core", "r8169", "virtio_net"} <= names
    assert {"usb-storage", "uas", "usbhid", "isofs", "vfat", "nls_cp437", "nls_ascii", "loop", "raid1"} <= names
    assert "mlxsw_core" not in names


def test_drivers_have_their_firmware_where_debian_has_it(root: Path, described: Manifest) -> None:
    if "firmware-bnx2x" not in described.packages:
        pytest.skip("the mirror has no firmware")
    assert list((root / "usr/lib/firmware/bnx2x").iterdir())


def test_it_is_started_by_the_kernel_command_line_and_knows_whom_to_trust(root: Path, out: Path) -> None:
    assert "python3 -m firstboot.installer" in (root / "scripts/xenpair").read_text()
    assert (root / "etc/xenpair" / signing.SIGNERS).read_text() == (out / signing.SIGNERS).read_text()
    assert (root / "lib").is_symlink()
    assert (root / "bin").is_symlink()


def test_the_iso_holds_what_it_should_for_its_owner_only(medium: Medium, described: Manifest, tmp_path: Path) -> None:
    assert medium.path.stat().st_mode & 0o777 == 0o600
    run(["xorriso", "-osirrox", "on", "-indev", medium.path, "-extract", "/", tmp_path / "iso"], timeout=120)
    for path, name in medium.artifacts.items():
        if not path.endswith("eltorito.img"):
            assert manifest.measure(tmp_path / "iso" / path[1:]) == described.artifacts[name], path
    assert seed.read_seed(tmp_path / "iso/xenpair/seed.img") == seed.read_seed(medium.seed)
    files = {str(path.relative_to(tmp_path / "iso")) for path in (tmp_path / "iso").rglob("*") if path.is_file()}
    others = {"boot/grub/grub.cfg", "boot/boot.cat", "xenpair/seed.img"}
    assert files == {path[1:] for path in medium.artifacts} | others


def test_the_iso_boots_by_bios_and_uefi_from_cd_and_from_stick(medium: Medium) -> None:
    reports = ["-report_el_torito", "plain", "-report_system_area", "plain", "-pvd_info"]
    report = run(["xorriso", "-indev", medium.path, *reports]).stdout
    assert re.search(rf"^Volume Id +: {LABEL}$", report, flags=re.MULTILINE)
    assert re.findall(r"^El Torito boot img : +\d+ +(\S+) +y ", report, flags=re.MULTILINE) == ["BIOS", "UEFI"]
    assert "grub2-mbr" in report
    table = json.loads(run(["sfdisk", "--json", medium.path]).stdout)["partitiontable"]
    assert table["label"] == "gpt"
    whole, efi = table["partitions"][:2]
    assert efi["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
    listed = run(["mdir", "-b", "-i", f"{medium.path}@@{efi['start'] * 512}", "::/EFI/BOOT"]).stdout
    assert "BOOTX64.EFI" in listed
    # The first partition is the file system, too: by its label both are found.
    with medium.path.open("rb") as f:
        f.seek(whole["start"] * 512 + 16 * 2048)
        assert f.read(6) == b"\x01CD001"


@pytest.fixture
def own(loaded: Loaded, artifacts: Artifacts) -> Iterator[Path]:
    """A directory with a config, and a cache that has the layers already."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xenpair-test-") as name:
        directory = Path(name)
        shutil.copy(loaded.source, directory / "cluster.yaml")
        signers = (artifacts.manifest.parent / signing.SIGNERS).read_text()
        from_cache, to_cache = Cache(CACHE), Cache(directory / "cache")
        keys = {"rootfs": rootfs_key(loaded), "installer": Request.of(rootfs_key(loaded), signers).layer_key}
        for kind, key in keys.items():
            copy = to_cache.layer(kind, key)
            copy.mkdir(parents=True)
            for file in from_cache.layer(kind, key).iterdir():
                (copy / file.name).symlink_to(file)
        yield directory


def rootfs_key(loaded: Loaded) -> str:
    return rootfs.Request.of(loaded.cluster.debian).key


def test_an_iso_follows_the_config_and_the_key_without_a_new_image(loaded: Loaded, own: Path) -> None:
    config, out = own / "cluster.yaml", own / "out"
    loaded = replace(loaded, source=config)

    def build(loaded: Loaded) -> tuple[Artifacts, set[str]]:
        """What was built, and which files in out are not what they were."""
        before = contents(out)
        made = build_image(loaded, out, ["iso"], cache=own / "cache", progress=Said().progress)
        return made, {name for name, found in contents(out).items() if before.get(name) != found}

    made, _ = build(loaded)
    assert made.built
    assert made.iso is not None
    assert made.netboot is None
    assert made.qcow2 is None

    assert build(loaded) == (replace(made, built=False), set())

    heartbeat = loaded.cluster.heartbeat.model_copy(update={"deadtime": 30})
    other = replace(loaded, cluster=loaded.cluster.model_copy(update={"heartbeat": heartbeat}))
    config.write_text(config.read_text() + "# changed\n")
    described = {manifest.NAME, manifest.SUMS, manifest.SUMS_SIGNATURE}
    assert build(other) == (replace(made, built=False), {*described, "seed.img", iso.ISO})

    (own / "secrets" / signing.KEY).unlink()
    again, changed = build(other)
    assert not again.built
    assert changed - described == {
        signing.SIGNERS,
        iso.ISO,
        *(f"{TREE}/{name}" for name in BOOTED),
        f"{PAYLOAD}/{SIGNATURE}",
        *(f"iso/{name}" for name in ("eltorito.img", "boot_hybrid.img", "efi.img")),
    }


def contents(out: Path) -> dict[str, tuple[int, int, int]]:
    """Each file below out, with what would change if it was touched."""
    directories = [out, *(path for path in out.rglob("*") if path.is_dir())] if out.is_dir() else []
    found = [(directory, state(directory)) for directory in directories]
    return {
        str((directory / name).relative_to(out)): status
        for directory, files in found
        for name, status in files.items()
        if (directory / name).is_file()
    }
