"""What is told of an image, from what the tools print of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.door import run
from images import dpkg
from images.cache import Cache
from images.errors import InspectError
from images.inspection import difference, report, show
from images.inspection.boot import boot_entries
from images.inspection.difference import Change, Difference, FileChange, FileState
from images.inspection.disk import opened, parse_table

MIB = 1 << 20


@pytest.fixture
def packages(captured: Path) -> tuple[dpkg.Package, ...]:
    return dpkg.installed((captured / "dpkg-status.txt").read_text())


def test_packages_have_their_source_where_it_differs(packages: tuple[dpkg.Package, ...]) -> None:
    told = {p.name: (p.version, p.architecture, p.source, p.source_version) for p in packages}
    assert told["drbd-utils"] == ("9.22.0-1.1", "amd64", "drbd-utils", "9.22.0-1.1")
    assert told["grub2-common"] == ("2.12-9+deb13u4", "amd64", "grub2", "2.12-9+deb13u4")
    kernel = ("6.12.118-1", "amd64", "linux-signed-amd64", "6.12.118+1")
    assert told["linux-image-6.12.118+deb13-amd64"] == kernel
    assert "libgone" not in told


def test_a_gpt_is_told_in_bytes(captured: Path) -> None:
    table, partitions = parse_table((captured / "sfdisk-image.json").read_text())
    assert table == "gpt"
    assert [(p.name, p.start, p.size) for p in partitions] == [
        ("bios-boot", MIB, MIB),
        ("esp", 2 * MIB, 64 * MIB),
        ("root", 66 * MIB, 4029 * MIB),
    ]


def test_a_dos_table_has_no_names(captured: Path) -> None:
    table, (partition,) = parse_table((captured / "sfdisk-dos.json").read_text())
    assert table == "dos"
    assert (partition.name, partition.type, partition.start, partition.size) == ("", "83", MIB, 4 * MIB)


def test_the_menu_is_told_with_its_default_and_what_each_entry_loads(captured: Path) -> None:
    entries = boot_entries((captured / "grub-update-grub.cfg").read_text())
    (default,) = [entry for entry in entries if entry.default]
    assert "Xen" in default.title
    assert [line.split()[0] for line in default.loads] == ["multiboot2", "module2", "module2"]
    assert len(entries) > 1


def test_a_menu_whose_default_is_nowhere_is_told_without_one() -> None:
    (entry,) = boot_entries("set default=\"7\"\nmenuentry 'one' {\n\tlinux /vmlinuz\n}\n")
    assert (entry.title, entry.default, entry.loads) == ("one", False, ("linux /vmlinuz",))


@pytest.mark.parametrize(
    ("code", "files", "expected"),
    [
        (b"\xeb", {}, ("BIOS",)),
        (b"", {"/efi/boot/bootx64.efi": (1, "")}, ("UEFI",)),
        (b"\xeb", {"/EFI/BOOT/BOOTX64.EFI": (1, "")}, ("BIOS", "UEFI")),
        (b"", {"/EFI/debian/grubx64.efi": (1, "")}, ()),
    ],
)
def test_which_firmware_boots_it(code: bytes, files: dict[str, tuple[int, str]], expected: tuple[str, ...]) -> None:
    assert report.firmware(code, files) == expected


def test_a_file_that_is_no_image_has_one_message(real_programs: None, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear sir\n")
    with (
        pytest.raises(InspectError, match=r"letter\.txt is no disk image: there is neither a partition table nor"),
        opened(tmp_path / "letter.txt", Cache(tmp_path / "cache")),
    ):
        pass
    with pytest.raises(InspectError, match="there is no image"), opened(tmp_path / "x", Cache(tmp_path / "cache")):
        pass


def test_of_a_foreign_image_as_much_is_told_as_can_be(real_programs: None, tmp_path: Path) -> None:
    raw = tmp_path / "what?offset=7.raw"
    run(["mkfs.ext4", "-q", "-L", "data", raw, "8M"])
    with opened(raw, Cache(tmp_path / "cache")) as disk:
        found = report.inspect(raw, disk)
    told = list(show.lines(found))
    assert told[0] == f"{raw}: raw, a disk of 8M, no partition table"
    assert (found.partitions[0].filesystem, found.partitions[0].label) == ("ext4", "data")
    assert found.xenpair is None
    assert "not known: the system: no ext4 partition holds one, and no other file system is read" in told


def test_two_images_are_compared_down_to_contents(real_programs: None, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("same", "content", "gone"):
        (tree / name).write_text(f"{name}\n")
    (tree / "link").symlink_to("same")
    argv = ["mkfs.ext4", "-q", "-U", "16b633d8-f355-500f-b99e-fb3cb07bd703", "-d", str(tree)]
    run([*argv, str(tmp_path / "old.raw"), "8M"])
    (tree / "content").write_text("CONTENT\n")
    (tree / "gone").unlink()
    (tree / "new").mkdir()
    (tree / "link").unlink()
    (tree / "link").symlink_to("gone")
    run([*argv, str(tmp_path / "new.raw"), "8M"])
    cache = Cache(tmp_path / "cache")
    with opened(tmp_path / "old.raw", cache) as old, opened(tmp_path / "new.raw", cache) as new:
        found = difference.compare(old, new)
        assert not difference.compare(old, old)
    assert not found.disk
    assert [(c.path, c.old is None, c.new is None) for c in found.files] == [
        ("/content", False, False),
        ("/gone", False, True),
        ("/link", False, False),
        ("/new", True, False),
    ]


def test_a_difference_reads_line_by_line() -> None:
    old, new = (FileState(type="file", mode=mode, owner="0:0", size=3, sha256="a") for mode in ("0644", "0600"))
    found = Difference(
        disk=(),
        packages=tuple(difference.changes({"a": "1", "b": "1"}, {"b": "2", "c": "1"})),
        files=(
            FileChange(path="/etc/x", old=old, new=new),
            FileChange(path="/etc/y", old=None, new=new),
            FileChange(path="/etc/z", old=old, new=old.model_copy(update={"sha256": "b"})),
        ),
    )
    assert found.packages[0] == Change(what="a", old="1", new=None)
    assert list(show.difference(found)) == [
        "packages:",
        "  - a 1",
        "  ~ b 1 -> 2",
        "  + c 1",
        "files:",
        "  ~ /etc/x: mode 0644 -> 0600",
        "  + /etc/y: file 0600 0:0 3 bytes",
        "  ~ /etc/z: content",
        "0 of the disk, 3 packages, 3 files differ",
    ]
