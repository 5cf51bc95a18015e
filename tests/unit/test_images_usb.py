"""The install medium onto a device: a loop device, where there are such and this is root."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from config.door import run
from config.errors import CommandError
from images import usb
from images.blockdevices import block_devices
from images.errors import StickError
from images.progress import Progress
from images.usb import Iso, compare, write_usb

SIZE = 3 << 20
STICK = 8 << 20


def iso_bytes() -> bytearray:
    """What passes for a hybrid ISO, full of what no stick has by chance."""
    content = bytearray(os.urandom(SIZE - 512))
    content[510:512] = b"\x55\xaa"
    content[0x8000:0x8006] = b"\x01CD001"
    return content


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    path = tmp_path / "xenpair.iso"
    path.write_bytes(iso_bytes())
    path.chmod(0o600)
    return path


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), width=200))


@contextlib.contextmanager
def looped(image: Path, *options: str) -> Iterator[Path]:
    """A loop device on that file; skips where there can be none."""
    if os.geteuid() != 0 or shutil.which("bmaptool") is None:
        pytest.skip("needs root and bmap-tools")
    try:
        device = run(["losetup", "--find", "--show", *options, image]).stdout.strip()
    except CommandError as e:
        pytest.skip(f"no loop devices here: {e.message}")
    try:
        yield Path(device)
    finally:
        run(["losetup", "--detach", device])


@pytest.fixture
def device(real_programs: None, tmp_path: Path) -> Iterator[Path]:
    """A stick that was in use before: not one byte of it is zero."""
    image = tmp_path / "stick"
    image.write_bytes(b"\xff" * STICK)
    with looped(image) as path:
        yield path


def wrote(iso: Path, device: Path, progress: Progress) -> None:
    write_usb(iso, device, force_fixed=True, ask=None, progress=progress)


def refused(iso: Path, device: Path, progress: Progress, *, force_fixed: bool = True) -> str:
    with pytest.raises(StickError) as e:
        write_usb(iso, device, force_fixed=force_fixed, ask=None, progress=progress)
    return str(e.value)


def untouched(device: Path) -> bool:
    return device.read_bytes() == b"\xff" * STICK


def test_the_device_holds_the_iso_and_nothing_at_its_end(iso: Path, device: Path, progress: Progress) -> None:
    wrote(iso, device, progress)
    content = device.read_bytes()
    assert content[: iso.stat().st_size] == iso.read_bytes()
    assert content[-(1 << 20) :] == bytes(1 << 20)


def test_a_name_by_id_is_followed(iso: Path, device: Path, progress: Progress, tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(device)
    wrote(iso, tmp_path / "by-id", progress)
    assert device.read_bytes().startswith(iso.read_bytes())


def test_the_holes_of_a_sparse_iso_are_written_too(iso: Path, device: Path, progress: Progress) -> None:
    with iso.open("r+b") as f:
        f.truncate(2 * SIZE)
    wrote(iso, device, progress)
    assert device.read_bytes()[SIZE : 2 * SIZE] == bytes(SIZE)


def test_an_iso_that_fills_the_device_is_not_cut_at_its_end(iso: Path, device: Path, progress: Progress) -> None:
    with iso.open("r+b") as f:
        f.truncate(STICK)
        f.seek(STICK - 3)
        f.write(b"end")
    wrote(iso, device, progress)
    assert device.read_bytes().endswith(b"end")


def test_a_fixed_disk_is_refused(iso: Path, device: Path, progress: Progress) -> None:
    assert "neither removable nor on USB" in refused(iso, device, progress, force_fixed=False)
    assert untouched(device)


def test_one_that_is_too_small_is_refused(iso: Path, device: Path, progress: Progress) -> None:
    with iso.open("r+b") as f:
        f.truncate(STICK + 1)
    assert "too small" in refused(iso, device, progress)
    assert untouched(device)


def test_a_mounted_one_is_refused(iso: Path, device: Path, progress: Progress, tmp_path: Path) -> None:
    run(["mkfs.ext4", "-q", device])
    before, place = device.read_bytes(), tmp_path / "mounted"
    place.mkdir()
    run(["mount", "-o", "ro", device, place])
    try:
        assert f"is mounted at {place}" in refused(iso, device, progress)
    finally:
        run(["umount", place])
    assert device.read_bytes() == before


def test_one_that_the_kernel_has_given_away_unseen_is_refused(iso: Path, device: Path, progress: Progress) -> None:
    fd = os.open(device, os.O_RDONLY | os.O_EXCL)
    try:
        assert "something holds it" in refused(iso, device, progress)
    finally:
        os.close(fd)
    assert untouched(device)


def test_a_read_only_one_is_refused(real_programs: None, iso: Path, progress: Progress, tmp_path: Path) -> None:
    image = tmp_path / "stick"
    image.write_bytes(b"\xff" * STICK)
    with looped(image, "--read-only") as device:
        assert "is read-only" in refused(iso, device, progress)


def test_this_very_machines_disk_is_refused_even_by_force(real_programs: None, iso: Path) -> None:
    own = [disk.path for disk in block_devices() if "/" in (place for _, place in disk.mounts())]
    if not own:
        pytest.skip("the root file system here lies on no block device")
    # Asked, and not told to write: whatever this test finds wrong, the machine survives it.
    with pytest.raises(StickError, match="carries the running system"):
        usb._chosen(Path(own[0]), Iso.read(iso), force_fixed=True)


@pytest.mark.usefixtures("real_programs")
def test_what_is_no_block_device_is_refused(iso: Path, progress: Progress, tmp_path: Path) -> None:
    assert "is no block device" in refused(iso, Path("/dev/null"), progress)
    assert "is no block device" in refused(iso, tmp_path, progress)
    assert "No such file" in refused(iso, tmp_path / "nothing", progress)


@pytest.mark.usefixtures("real_programs")
def test_what_is_no_iso_is_refused(device: Path, progress: Progress, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("cluster: {}\n")
    assert "is no ISO that boots from a stick" in refused(tmp_path / "cluster.yaml", device, progress)
    text = refused(tmp_path / "missing.iso", device, progress)
    assert "missing.iso cannot be read: No such file" in text
    assert "invoke build-image --formats iso" in text
    assert untouched(device)


def test_a_host_without_bmaptool_is_told_what_to_install(
    iso: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert "apt-get install bmap-tools" in refused(iso, Path("/dev/null"), progress)


class TestTheQuestion:
    """Before a device is overwritten, its name has to be typed."""

    @pytest.mark.parametrize("answer", [lambda d: d.name, str, lambda d: f" {d.name} "])
    def test_the_devices_name_is_a_yes(
        self, iso: Path, device: Path, progress: Progress, answer: Callable[[Path], str]
    ) -> None:
        write_usb(iso, device, force_fixed=True, ask=lambda _: answer(device), progress=progress)
        assert device.read_bytes().startswith(iso.read_bytes())

    @pytest.mark.parametrize("answer", ["", "y", "yes", "sda"])
    def test_anything_else_is_a_no(self, iso: Path, device: Path, progress: Progress, answer: str) -> None:
        with pytest.raises(StickError, match="not confirmed"):
            write_usb(iso, device, force_fixed=True, ask=lambda _: answer, progress=progress)
        assert untouched(device)

    def test_a_device_that_was_exchanged_meanwhile_is_not_written_to(
        self, iso: Path, device: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def exchange(_: str) -> str:
            others = [replace(found, serial="another") for found in block_devices()]
            monkeypatch.setattr(usb, "block_devices", lambda: others)
            return device.name

        with pytest.raises(StickError, match="not what it was"):
            write_usb(iso, device, force_fixed=True, ask=exchange, progress=progress)
        assert untouched(device)

    def test_where_nobody_can_answer_it_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("loop0\n"))
        with pytest.raises(StickError, match="--yes"):
            usb.ask_on_terminal("?")


class TestReadingBack:
    """What the device gives back is compared by us; a file stands for the device here."""

    @pytest.mark.parametrize("at", [0, 1, (1 << 20) - 1, 1 << 20, SIZE - 513])
    def test_the_one_wrong_byte_is_named(self, iso: Path, progress: Progress, tmp_path: Path, at: int) -> None:
        content = bytearray(iso.read_bytes())
        content[at] ^= 0x40
        (tmp_path / "stick").write_bytes(content)
        with pytest.raises(StickError, match=rf"byte {at} is 0x{content[at]:02x} and should be 0x"):
            compare(Iso.read(iso), tmp_path / "stick", progress)

    def test_a_stick_that_ends_before_the_iso_does_is_named_too(
        self, iso: Path, progress: Progress, tmp_path: Path
    ) -> None:
        (tmp_path / "stick").write_bytes(iso.read_bytes()[: 2 << 20])
        with pytest.raises(StickError, match=rf"byte {2 << 20} cannot be read"):
            compare(Iso.read(iso), tmp_path / "stick", progress)

    def test_what_follows_the_iso_on_the_stick_does_not_matter(
        self, iso: Path, progress: Progress, tmp_path: Path
    ) -> None:
        (tmp_path / "stick").write_bytes(iso.read_bytes() + b"more")
        compare(Iso.read(iso), tmp_path / "stick", progress)

    def test_an_iso_that_changed_meanwhile_is_noticed(self, iso: Path, progress: Progress, tmp_path: Path) -> None:
        before = replace(Iso.read(iso), sha256="0" * 64)
        shutil.copy(iso, tmp_path / "stick")
        with pytest.raises(StickError, match="has changed while it was written"):
            compare(before, tmp_path / "stick", progress)


def test_a_failed_write_says_what_bmaptool_said(
    iso: Path, device: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen

    def without_image(argv: list[str], **options: object) -> object:
        broken = ["/nowhere" if word == str(iso) else word for word in argv] if argv[0] == "bmaptool" else argv
        return real(broken, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("config.door.subprocess.Popen", without_image)
    text = refused(iso, device, progress)
    assert "could not be written" in text
    assert "/nowhere" in text


def test_progress_is_told_in_tenths_where_no_terminal_shows_a_bar() -> None:
    said = io.StringIO()
    with Progress(Console(file=said, width=200)).measured("writing", 200) as tell:
        for done in (1, 20, 30, 110, 200, 400):
            tell(done)
    lines = said.getvalue().splitlines()
    assert lines[:-1] == ["writing ...", "writing: 10%", "writing: 50%", "writing: 90%"]
    assert lines[-1].startswith("writing: ")
