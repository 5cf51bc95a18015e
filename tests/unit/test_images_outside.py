"""What the build tells the outside: errors, argv of other programs, manifest, seed medium."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from config.door import run
from config.findings import ConfigError
from images import disk, manifest, namespace, preflight
from images.disk import Identity
from images.dpkg import versions
from images.errors import BuildError, MirrorError, PreflightError, SpaceError
from images.jobs import explain
from images.manifest import Manifest
from images.seed import FILES, LABEL, SUMS, medium_size, read_seed, write_seed

EXAMPLE = (Path(__file__).parents[2] / "config" / "cluster.yaml").read_text()
GUEST = (
    "guests: [{name: a, memory: 64M, disk: 64M, home: xen1, install: {tarball: a.tar.gz}, "
    "boot: {kernel: vmlinuz-6.12.1+deb13-amd64}}]"
)
KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        ("tar: ./x: Wrote only 512 of 10240 bytes\ntar: write: No space left on device\n", SpaceError),
        ("W: GPG error: http://m trixie InRelease: NO_PUBKEY 6ED0E7B82643E131\n", MirrorError),
        ("E: Failed to fetch http://m/pool/x.deb  Connection refused\n", MirrorError),
        ("dpkg: error processing package xenpair-firstboot\n", BuildError),
    ],
)
def test_the_cause_of_a_failed_build_is_told(stderr: str, error: type[BuildError]) -> None:
    found = explain(stderr)
    assert type(found) is error
    assert stderr.strip().splitlines()[-1] in found.message


def test_a_module_that_cannot_be_built_is_told_with_the_compilers_words(captured: Path) -> None:
    message = explain((captured / "dkms-failed.txt").read_text()).message
    assert message.startswith("the kernel module broken/1.0 cannot be built for 6.12.118+deb13-amd64:\n")
    assert "undeclared here (not in a function)" in message
    assert "mmdebstrap" not in message


def test_a_package_that_does_not_fit_is_told_with_what_it_lacks(captured: Path) -> None:
    message = explain((captured / "apt-unmet.txt").read_text()).message
    assert "needy : Depends: libc6 (>= 3) but it is not going to be installed" in message
    assert "Depends: nothing-like-it but it is not installable" in message


def test_root_needs_no_user_namespace_and_others_do() -> None:
    assert "--user" not in namespace.isolated(["true"], root=True)
    assert {"--user", "--map-auto", "--map-root-user"} <= set(namespace.isolated(["true"], root=False))


@pytest.mark.parametrize("root", [True, False])
def test_everything_inside_dies_with_the_build(root: bool) -> None:
    argv = namespace.isolated(["true"], root=root)
    assert argv[:4] == ["setpriv", "--pdeathsig", "KILL", "unshare"]
    assert {"--kill-child", "--pid", "--fork"} <= set(argv)


def test_missing_tools_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ("mcopy", "sfdisk")
    monkeypatch.setattr(shutil, "which", lambda tool, **_: None if tool in missing else f"/usr/bin/{tool}")
    with pytest.raises(PreflightError) as e:
        preflight.check_tools()
    assert "apt-get install" in e.value.hint
    assert {"fdisk", "mtools"} <= set(e.value.hint.split())
    assert "mmdebstrap" not in e.value.hint


def test_needs_on_one_file_system_add_up(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    preflight.check_space([(tmp_path / "a", free // 2)])
    with pytest.raises(SpaceError, match="free space"):
        preflight.check_space([(tmp_path / "a", free // 2 + (1 << 30)), (tmp_path / "b", free // 2 + (1 << 30))])


def test_partitions_are_aligned_and_leave_room_for_both_tables() -> None:
    end = disk.MIB
    for partition in disk.PARTITIONS:
        assert partition.start % disk.MIB == 0
        assert partition.start >= end
        end = partition.start + partition.size
    assert end <= disk.DISK_SIZE - disk.MIB


def test_an_images_identifiers_depend_on_its_key_alone() -> None:
    assert Identity.of(KEY) == Identity.of(KEY)
    other = Identity.of(KEY.replace("0", "1"))
    assert not {other.disk, other.root, other.esp} & {
        Identity.of(KEY).disk,
        Identity.of(KEY).root,
        Identity.of(KEY).esp,
    }


def test_mkfs_is_told_where_and_how_large_the_root_file_system_is() -> None:
    argv = disk.root_argv(["mkfs.ext4"], Path("disk.raw"), Path("tree"), Identity.of(KEY))
    assert f"offset={disk.ROOT.start}" in argv[argv.index("-E") + 1].split(",")
    assert argv[-1] == f"{disk.ROOT.size // 1024}k"


def test_only_installed_packages_are_listed() -> None:
    status = """\
Package: a
Status: install ok installed
Version: 1:2.3-4

Package: gone
Status: deinstall ok config-files
Version: 1
Description: text
 Version: 9
"""
    assert versions(status) == {"a": "1:2.3-4"}


def test_a_manifest_of_another_format_is_not_understood(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(json.dumps({"format": 2}))
    assert manifest.read(tmp_path) is None


def test_the_sums_cover_every_artifact_and_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"bits")
    described = Manifest(
        suite="trixie",
        key=KEY,
        config_hash="c",
        root_uuid="u",
        kernel="k",
        warnings=(),
        sources=(),
        artifacts={"image": manifest.measure(tmp_path / "image")},
        packages={},
    )
    assert manifest.sums(described).splitlines() == [
        f"{hashlib.sha256(b'bits').hexdigest()}  image",
        f"{hashlib.sha256(described.to_json().encode()).hexdigest()}  manifest.json",
    ]


@pytest.mark.parametrize("places", [[], [0], [3 << 20], [0, 5 << 20], [(8 << 20) - 1]])
def test_the_sum_of_a_sparse_file_is_that_of_all_its_bytes(tmp_path: Path, places: list[int]) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as f:
        f.truncate(8 << 20)
        for place in places:
            f.seek(place)
            f.write(b"x")
    assert manifest.measure(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def seed_tools(real_programs: None) -> None:
    """Skips where the host has no tools for FAT."""
    if shutil.which("mcopy") is None or shutil.which("mkfs.vfat", path="/usr/sbin:/sbin") is None:
        pytest.skip("needs mtools and dosfstools")


@pytest.mark.usefixtures("seed_tools")
class TestSeed:
    """The seed medium."""

    def test_it_holds_what_was_put_in_for_its_owner_only(self, tmp_path: Path) -> None:
        config, out = tmp_path / "my.yaml", tmp_path / "out" / "seed.img"
        config.write_text(EXAMPLE)
        assert write_seed(config, "join: secret\n", out, authorized_keys="ssh-ed25519 AAAA me\n")
        assert out.stat().st_mode & 0o777 == 0o600
        assert read_seed(out) == {
            "cluster.yaml": EXAMPLE.encode(),
            "secrets.yaml": b"join: secret\n",
            "authorized_keys": b"ssh-ed25519 AAAA me\n",
        }
        assert [path.name for path in out.parent.iterdir()] == ["seed.img"]

    def test_it_carries_the_label_that_first_boot_looks_for(self, tmp_path: Path) -> None:
        (tmp_path / "c").write_text(EXAMPLE)
        write_seed(tmp_path / "c", "", tmp_path / "seed.img")
        assert LABEL.encode() in (tmp_path / "seed.img").read_bytes()[:4096]

    def test_the_same_content_is_not_written_again_and_another_is(self, tmp_path: Path) -> None:
        config, out = tmp_path / "c", tmp_path / "seed.img"
        config.write_text(EXAMPLE)
        assert write_seed(config, "s", out)
        inode = out.stat().st_ino
        assert not write_seed(config, "s", out)
        assert out.stat().st_ino == inode
        assert write_seed(config, "other", out)

    def test_one_that_others_can_read_is_written_again(self, tmp_path: Path) -> None:
        (tmp_path / "c").write_text(EXAMPLE)
        out = tmp_path / "seed.img"
        write_seed(tmp_path / "c", "s", out)
        out.chmod(0o644)
        assert write_seed(tmp_path / "c", "s", out)
        assert out.stat().st_mode & 0o777 == 0o600

    @pytest.fixture
    def config(self, tmp_path: Path) -> Path:
        config = tmp_path / "my.yaml"
        config.write_text(EXAMPLE.replace("guests: []", GUEST))
        (tmp_path / "a.tar.gz").write_bytes(b"\r\n" * (3 << 20))
        (tmp_path / "vmlinuz-6.12.1+deb13-amd64").write_bytes(b"kernel")
        return config

    def test_it_grows_with_the_files_that_the_config_names(self, config: Path, tmp_path: Path) -> None:
        out = tmp_path / "seed.img"
        assert write_seed(config, "s", out)
        assert out.stat().st_size == 10 << 20
        for name in ("a.tar.gz", "vmlinuz-6.12.1+deb13-amd64"):
            run(["mcopy", "-i", out, f"::{FILES}/{name}", tmp_path / "read"])
            assert (tmp_path / "read").read_bytes() == (tmp_path / name).read_bytes()
            (tmp_path / "read").unlink()

    def test_its_list_of_sums_is_one_that_sha256sum_checks(self, config: Path, tmp_path: Path) -> None:
        write_seed(config, "s", tmp_path / "seed.img")
        (tmp_path / FILES).mkdir()
        for name in ("a.tar.gz", "vmlinuz-6.12.1+deb13-amd64"):
            (tmp_path / name).rename(tmp_path / FILES / name)
        sums = read_seed(tmp_path / "seed.img")[SUMS].decode()
        assert run(["sha256sum", "-c", "-"], stdin=sums, cwd=tmp_path).stdout.count(": OK\n") == 2

    def test_a_changed_file_is_a_reason_to_write_it_again(self, config: Path, tmp_path: Path) -> None:
        out = tmp_path / "seed.img"
        write_seed(config, "s", out)
        assert not write_seed(config, "s", out)
        (tmp_path / "a.tar.gz").write_bytes(b"\r\r" * (3 << 20))
        assert write_seed(config, "s", out)

    def test_a_file_that_does_not_lie_beside_the_config_is_an_error(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "a.tar.gz").unlink()
        with pytest.raises(ConfigError, match=r"install\.tarball: .*a\.tar\.gz does not exist"):
            write_seed(config, "s", tmp_path / "seed.img")
        assert not (tmp_path / "seed.img").exists()


@pytest.mark.parametrize(
    ("sizes", "size"), [([], 2 << 20), ([0], 2 << 20), ([1], 4 << 20), ([2 << 20], 6 << 20), ([1 << 30], 1042 << 20)]
)
def test_a_medium_has_room_for_the_files_and_their_fat(sizes: list[int], size: int) -> None:
    assert medium_size(sizes) == size
