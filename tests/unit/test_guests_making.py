"""What a new guest's volume is filled with, and that a foreign tarball leads nothing of ours astray."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from config.door import Output, run
from config.errors import CommandError
from firstboot.errors import GuestError
from firstboot.guests import making, rootfs
from firstboot.guests.definition import Definition
from firstboot.guests.making import Empty, Image, Tarball
from firstboot.guests.rootfs import Tree

MIB = 1 << 20
WEB = Definition("web01", "xen1", 512 * MIB, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
STATIC = replace(WEB, address="192.168.132.50/24", gateway="192.168.132.254")
KEY = "ssh-ed25519 AAAA admin\n"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A small root file system, beside a directory that nothing in it may lead to."""
    (tmp_path / "ours").mkdir()
    root = tmp_path / "system"
    for path in ("etc", "usr/lib/systemd/system", "root"):
        (root / path).mkdir(parents=True)
    return root


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A file in the place of a volume, all ones."""
    path = tmp_path / "device"
    path.write_bytes(b"\xff" * 4 * MIB)
    return path


def furnished(root: Path, definition: Definition = WEB, keys: str = "") -> None:
    with Tree(root) as tree:
        rootfs.check(tree)
        rootfs.furnish(tree, definition, keys)


def packed(path: Path, root: Path, mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(root, ".")
    return path


# What is written into a system.


def test_a_system_gets_its_name_its_disk_and_its_network(system: Path) -> None:
    furnished(system, STATIC, KEY)
    assert (system / "etc/hostname").read_text() == "web01\n"
    assert "127.0.1.1\tweb01\n" in (system / "etc/hosts").read_text()
    assert (system / "etc/fstab").read_text() == "/dev/xvda / ext4 errors=remount-ro 0 1\n"
    network = (system / "etc/systemd/network/10-xenpair.network").read_text()
    assert "MACAddress=00:16:3e:00:00:01\n" in network
    assert "Address=192.168.132.50/24\nGateway=192.168.132.254\n" in network
    keys = system / "root/.ssh/authorized_keys"
    assert (keys.read_text(), keys.stat().st_mode & 0o777, keys.parent.stat().st_mode & 0o777) == (KEY, 0o600, 0o700)
    assert not (system / "etc/network").exists()


def test_a_system_with_dhcp_asks_by_its_mac_address(system: Path) -> None:
    furnished(system)
    network = (system / "etc/systemd/network/10-xenpair.network").read_text()
    assert "DHCP=yes\n" in network
    assert "ClientIdentifier=mac\n" in network


def test_ifupdown_is_told_where_it_is_there(system: Path) -> None:
    (system / "etc/network").mkdir()
    interfaces = system / "etc/network/interfaces"
    interfaces.write_text("auto lo\niface lo inet loopback")
    furnished(system, STATIC)
    stanza = (system / "etc/network/interfaces.d/xenpair").read_text()
    assert stanza.startswith("auto mac/00:16:3e:00:00:01=xenpair\niface xenpair inet static\n")
    assert interfaces.read_text().endswith("inet loopback\nsource /etc/network/interfaces.d/*\n")
    furnished(system)
    assert "inet dhcp" in (system / "etc/network/interfaces.d/xenpair").read_text()
    assert interfaces.read_text().count("source") == 1


def test_networkd_is_switched_on_only_where_nothing_else_does_the_network(system: Path) -> None:
    (system / "usr/lib/systemd/system/systemd-networkd.service").touch()
    wanted = system / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    (system / "etc/network").mkdir()
    (system / "etc/network/interfaces").touch()
    furnished(system)
    assert not wanted.is_symlink()
    (system / "etc/network/interfaces").unlink()
    furnished(system)
    furnished(system)
    assert str(wanted.readlink()) == "/usr/lib/systemd/system/systemd-networkd.service"


def test_two_systems_from_one_tarball_are_not_the_same_machine(system: Path) -> None:
    (system / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    furnished(system)
    assert (system / "etc/machine-id").read_text() == ""


def test_what_is_known_already_stays(system: Path) -> None:
    (system / "etc/hosts").write_text("127.0.0.1 localhost\n10.0.0.1 web01.example.org web01 # me\n")
    (system / "root/.ssh").mkdir()
    (system / "root/.ssh/authorized_keys").write_text("ssh-rsa BBBB other")
    furnished(system, keys=KEY)
    assert (system / "etc/hosts").read_text().count("web01") == 2
    assert (system / "root/.ssh/authorized_keys").read_text() == f"ssh-rsa BBBB other\n{KEY}"


def test_without_keys_nobody_is_let_in(system: Path) -> None:
    furnished(system)
    assert not (system / "root/.ssh").exists()


def test_a_tarball_with_a_directory_around_the_system_is_no_system(system: Path) -> None:
    with pytest.raises(GuestError, match="no root file system"):
        furnished(system.parent)


# A foreign system leads nowhere.


@pytest.mark.parametrize("target", ["../../ours", "/tmp", "..", "usr"])
@pytest.mark.parametrize("path", ["etc/systemd", "root/.ssh", "root"])
def test_a_link_in_the_place_of_a_directory_is_not_followed(system: Path, path: str, target: str) -> None:
    link = system / path
    if link.is_dir():
        link.rmdir()
    link.symlink_to(target)
    with pytest.raises(GuestError, match="follows no link"):
        furnished(system, keys=KEY)
    assert list((system.parent / "ours").iterdir()) == []


@pytest.mark.parametrize("path", ["etc/hostname", "etc/hosts", "etc/fstab", "etc/machine-id"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(system: Path, path: str) -> None:
    victim = system.parent / "ours/victim"
    victim.write_text("ours")
    (system / path).symlink_to("../../ours/victim")
    furnished(system)
    assert victim.read_text() == "ours"
    assert "ours" not in (system / "etc/hosts").read_text()


def test_a_link_in_the_place_of_our_temporary_file_is_not_written_through(system: Path) -> None:
    victim = system.parent / "ours/victim"
    (system / "etc/.hostname.xenpair").symlink_to(victim)
    furnished(system)
    assert not victim.exists()
    assert (system / "etc/hostname").read_text() == "web01\n"


def test_a_hard_link_is_replaced_and_not_written_through(system: Path) -> None:
    victim = system.parent / "ours/victim"
    victim.write_text("ours")
    os.link(victim, system / "etc/fstab")
    furnished(system)
    assert victim.read_text() == "ours"


def test_a_fifo_does_not_hold_us_up(system: Path) -> None:
    os.mkfifo(system / "etc/hosts")
    furnished(system)
    assert "web01" in (system / "etc/hosts").read_text()


def test_a_directory_in_the_place_of_a_file_is_a_clear_stop(system: Path) -> None:
    (system / "etc/hostname").mkdir()
    with pytest.raises(GuestError, match="etc/hostname"):
        furnished(system)


def test_a_root_that_is_a_link_is_not_entered(system: Path) -> None:
    (system.parent / "link").symlink_to(system)
    with pytest.raises(OSError), Tree(system.parent / "link"):  # noqa: PT011 -- the errno differs between kernels
        pass


@pytest.mark.parametrize("path", ["../ours/x", "etc/../../ours/x", "/etc/x"])
def test_only_plain_paths_are_asked_for(system: Path, path: str) -> None:
    with Tree(system) as tree, pytest.raises(ValueError, match="plain"):
        tree.write(path, "")


# Tarballs.


@pytest.fixture
def unmounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory in the place of the mounted file system."""
    root = tmp_path / "mounted"
    root.mkdir()

    @contextlib.contextmanager
    def mounted(device: Path) -> Iterator[Path]:
        yield root

    monkeypatch.setattr(making, "mounted", mounted)
    return root


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tarball_becomes_the_guests_system(
    real_programs: None, system: Path, device: Path, unmounted: Path, mode: str
) -> None:
    (system / "etc/os-release").write_text("ID=debian\n")
    making.fill(WEB, device, Tarball(packed(system.parent / "a:b.tar", system, mode)), authorized_keys=KEY)
    assert (unmounted / "etc/os-release").read_text() == "ID=debian\n"
    assert (unmounted / "etc/hostname").read_text() == "web01\n"
    assert (unmounted / "root/.ssh/authorized_keys").read_text() == KEY


def test_the_file_system_has_the_guests_name_and_can_be_checked_by_older_systems(
    real_programs: None, device: Path
) -> None:
    making.make_file_system(device, "a-rather-long-guest-name")
    superblock = device.read_bytes()[1024:2048]
    # struct ext4_super_block in fs/ext4/ext4.h: s_magic, s_volume_name, s_feature_compat, s_feature_incompat.
    assert superblock[0x38:0x3A] == b"\x53\xef"
    assert superblock[0x78:0x88] == b"a-rather-long-gu"
    assert not int.from_bytes(superblock[0x5C:0x60], "little") & 0x1000
    assert not int.from_bytes(superblock[0x60:0x64], "little") & 0x2000


def test_members_outside_of_the_system_stay_inside(
    real_programs: None, system: Path, device: Path, unmounted: Path
) -> None:
    tarball = system.parent / "rootfs.tar"
    with tarfile.open(tarball, "w") as archive:
        archive.add(system, ".")
        for name in ("../ours/up", "/ours-absolute", "out/through"):
            if name.startswith("out/"):
                link = tarfile.TarInfo("out")
                link.type, link.linkname = tarfile.SYMTYPE, "../ours"
                archive.addfile(link)
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, BytesIO(b"x"))
    with contextlib.suppress(GuestError):
        making.fill(WEB, device, Tarball(tarball))
    assert list((system.parent / "ours").iterdir()) == []
    assert not Path("/ours-absolute").exists()


@pytest.mark.parametrize("content", [b"no tarball at all\n" * 100, b"\x1f\x8b\x08\x00rest", b"\xfd7zXZ\x00rest"])
def test_what_is_no_tarball_is_said_to_be_none(
    real_programs: None, tmp_path: Path, device: Path, unmounted: Path, content: bytes
) -> None:
    tarball = tmp_path / "rootfs.tar.gz"
    tarball.write_bytes(content)
    with pytest.raises(GuestError, match="is no tarball"):
        making.fill(WEB, device, Tarball(tarball))


def test_a_tarball_that_was_cut_off_is_said_to_be_none(
    real_programs: None, system: Path, device: Path, unmounted: Path
) -> None:
    (system / "etc/random").write_bytes(os.urandom(MIB))
    tarball = packed(system.parent / "rootfs.tar.gz", system)
    os.truncate(tarball, MIB // 2)
    with pytest.raises(GuestError, match="not a whole one"):
        making.fill(WEB, device, Tarball(tarball))


def test_a_tarball_of_something_else_is_named_in_the_error(
    real_programs: None, system: Path, device: Path, unmounted: Path
) -> None:
    tarball = packed(system.parent / "other.tar", system.parent / "ours", "w")
    with pytest.raises(GuestError, match=r"other\.tar: there is no root file system"):
        making.fill(WEB, device, Tarball(tarball))


def test_a_full_disk_is_told_as_what_it_is() -> None:
    said = "tar: ./usr/lib/x: Wrote only 512 of 10240 bytes\ntar: ./y: Cannot mkdir: No space left on device\n"
    e = making.tar_trouble(Path("rootfs.tar"), said, 64 * MIB)
    assert e.message == "rootfs.tar does not fit into 64M"


def test_any_other_trouble_is_told_in_tars_words() -> None:
    said = "tar: ./x: Cannot mknod: Operation not permitted\ntar: Exiting with failure status due to previous errors\n"
    assert "Cannot mknod" in making.tar_trouble(Path("rootfs.tar"), said, MIB).message
    assert "Exiting" not in making.tar_trouble(Path("rootfs.tar"), said, MIB).message


# Mounting.


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been started; umount fails as often as it is told to."""
    started: list[list[str]] = []

    def fake(argv: list[str | Path], *, check: bool = True, timeout: float = 0) -> Output:
        started.append([str(word) for word in argv])
        return Output(0, "", "")

    monkeypatch.setattr(making, "run", fake)
    monkeypatch.setattr("firstboot.guests.making.time.sleep", lambda _: None)
    return started


def test_a_file_system_is_unmounted_whatever_happens(programs: list[list[str]], device: Path) -> None:
    def fail(root: Path) -> None:
        raise RuntimeError(f"{root.parent.stat().st_mode & 0o777:o} {root}")

    with pytest.raises(RuntimeError, match="700 ") as caught, making.mounted(device) as root:
        fail(root)
    assert [argv[0] for argv in programs] == ["mount", "umount"]
    assert "nodev" in programs[0][4]
    assert not Path(str(caught.value).split()[1]).parent.exists()


def test_a_file_system_that_stays_mounted_is_an_error_and_nothing_in_it_is_removed(
    monkeypatch: pytest.MonkeyPatch, programs: list[list[str]], device: Path
) -> None:
    tries = []

    def busy(argv: list[str | Path], *, check: bool = True, timeout: float = 0) -> Output:
        if argv[0] != "umount":
            return Output(0, "", "")
        tries.append(argv)
        if check:
            raise CommandError(["umount"], 32, "target is busy")
        return Output(32, "", "target is busy")

    monkeypatch.setattr(making, "run", busy)
    with pytest.raises(CommandError, match="busy"), making.mounted(device) as root:
        (root / "the guest's").touch()
    assert len(tries) == making.UNMOUNT_TRIES
    assert (root / "the guest's").exists()
    shutil.rmtree(root.parent)


# Images.


@pytest.fixture
def qcow2(tmp_path: Path, real_programs: None) -> Callable[..., Path]:
    """Makes a qcow2 image of 2 MiB with some text at its front."""

    def make(*options: str) -> Path:
        path = tmp_path / "disk.qcow2"
        raw = tmp_path / "disk.raw"
        raw.write_bytes(b"first sector".ljust(2 * MIB, b"\0"))
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, path])
        return path

    return make


def test_an_image_is_copied_to_the_front_of_the_disk(device: Path, qcow2: Callable[..., Path]) -> None:
    making.fill(WEB, device, Image(qcow2()))
    content = device.read_bytes()
    assert content[: 2 * MIB] == b"first sector".ljust(2 * MIB, b"\0")
    assert len(content) == 4 * MIB


def test_a_raw_image_is_taken_too(real_programs: None, tmp_path: Path, device: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"raw".ljust(MIB, b"\0"))
    making.fill(WEB, device, Image(tmp_path / "disk.img"))
    assert device.read_bytes()[:MIB] == b"raw".ljust(MIB, b"\0")


def test_an_image_that_is_larger_than_the_disk_is_refused_before_anything_is_written(
    real_programs: None, tmp_path: Path, device: Path
) -> None:
    os.truncate(tmp_path / "device", 4 * MIB)
    (tmp_path / "disk.img").touch()
    os.truncate(tmp_path / "disk.img", 5 * MIB)
    with pytest.raises(GuestError, match="has 5M, and the guest's has 4M"):
        making.fill(WEB, device, Image(tmp_path / "disk.img"))
    assert device.read_bytes() == b"\xff" * 4 * MIB


def test_an_image_over_another_file_is_refused(
    real_programs: None, tmp_path: Path, device: Path, qcow2: Callable[..., Path]
) -> None:
    over = tmp_path / "over.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", qcow2(), "-F", "qcow2", over])
    with pytest.raises(GuestError, match="is not whole"):
        making.fill(WEB, device, Image(over))


def test_an_image_with_its_data_elsewhere_is_refused(real_programs: None, tmp_path: Path, device: Path) -> None:
    path = tmp_path / "front.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", path, "1M"])
    with pytest.raises(GuestError, match="is not whole"):
        making.fill(WEB, device, Image(path))


def test_an_image_that_is_not_there_is_a_clear_stop(real_programs: None, tmp_path: Path, device: Path) -> None:
    with pytest.raises(GuestError, match="cannot be read"):
        making.fill(WEB, device, Image(tmp_path / "missing.img"))


FACTS = {"format": "qcow2", "virtual-size": MIB, "format-specific": {"type": "qcow2", "data": {"compat": "1.1"}}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "vmdk"}, "vmdk"),
        ({"format": "luks"}, "luks"),
        ({"encrypted": True}, "encrypted"),
        ({"backing-filename": "/etc/shadow"}, "/etc/shadow"),
        ({"format-specific": {"data": {"corrupt": True}}}, "corrupt"),
        ({"format-specific": {"data": {"encrypt": {"format": "luks"}}}}, "encrypted"),
        ({"virtual-size": "many"}, "not understood"),
        ({"format-specific": None}, "not understood"),
    ],
)
def test_an_image_that_cannot_stand_alone_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(GuestError, match=why):
        making.image_facts(Path("disk"), json.dumps({**FACTS, **change}))


def test_a_whole_image_tells_its_format_and_size() -> None:
    assert making.image_facts(Path("disk"), json.dumps(FACTS)) == ("qcow2", MIB)


@pytest.mark.parametrize("told", ["", "[]", "{}", "null"])
def test_what_qemu_img_says_is_not_guessed(told: str) -> None:
    with pytest.raises(GuestError, match="not understood"):
        making.image_facts(Path("disk"), told)


def test_an_empty_disk_is_left_as_it_is(device: Path) -> None:
    making.fill(WEB, device, Empty())
    assert device.read_bytes() == b"\xff" * 4 * MIB
