"""The install medium: its menu, and when it is written again. The real xorriso puts it together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from config.door import run
from images import iso, loaders, manifest
from images.grub import default_entry, top_level_entries
from images.iso import Medium, write_iso
from images.manifest import Manifest
from images.seed import write_seed

EXAMPLE = Path(__file__).parents[2] / "config" / "cluster.yaml"
UUID = "62e28e9d-ee1c-5e51-bf5e-2bdef4574ab7"
DATE = 1748438863


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    """Small files of random content in the place of the real ones, without the seed medium."""
    described = Manifest(
        suite="trixie", key="0" * 32, config_hash="c", root_uuid=UUID, kernel="k", medium_date=DATE,
        warnings=(), sources=(), artifacts={}, packages={},
    )  # fmt: skip
    out = tmp_path / "out"
    medium = Medium(out / iso.ISO, out, described, out / "seed.img")
    names = (*medium.artifacts.values(), *iso.OUTSIDE)
    for number, name in enumerate(names, start=1):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        size = 512 if name.endswith(loaders.HYBRID) else 8192
        (out / name).write_bytes(bytes([number]) * size)
    artifacts = {name: manifest.measure(out / name) for name in names}
    return replace(medium, made=described.model_copy(update={"artifacts": artifacts}))


def test_the_menu_installs_only_where_nothing_is_installed(medium: Medium) -> None:
    lines = [line.strip() for line in medium.menu.splitlines()]
    found = lines.index(f"search --no-floppy --fs-uuid --set=installed {UUID}")
    assert lines[found + 1 : found + 6] == [
        'if [ -n "$installed" ]; then',
        'set default="installed"',
        "else",
        'set default="install"',
        "fi",
    ]
    assert [entry.id for entry in top_level_entries(medium.menu) if entry] == ["install", "shell", "installed"]


def test_the_installer_is_booted_with_what_it_has_to_know(medium: Medium) -> None:
    entry = default_entry(medium.menu)
    assert entry.id == "install"
    assert "linux /boot/vmlinuz boot=xenpair console=tty0 console=ttyS0,115200 xenpair.medium=XENPAIR_INSTALL" in (
        entry.lines
    )
    assert "initrd /boot/initrd.img /boot/installer.img" in entry.lines


def test_the_installed_system_boots_by_its_own_menu(medium: Medium) -> None:
    (entry,) = [entry for entry in top_level_entries(medium.menu) if entry and entry.id == "installed"]
    assert entry.lines == ("set root=$installed", "set prefix=($root)/boot/grub", "configfile $prefix/grub.cfg")


def test_its_boot_loader_looks_for_the_medium_of_that_date() -> None:
    assert loaders.early_config(DATE).splitlines()[0] == "search.fs_uuid 2025-05-28-13-27-43-00 root"


@pytest.fixture
def written(real_programs: None, medium: Medium) -> Medium:
    if shutil.which("xorriso") is None or shutil.which("mcopy") is None:
        pytest.skip("needs xorriso, mtools and dosfstools")
    write_seed(EXAMPLE, "join: secret\n", medium.seed)
    assert write_iso(medium)
    return medium


def test_it_is_for_its_owner_only_and_leaves_nothing_else_behind(written: Medium) -> None:
    assert written.path.stat().st_mode & 0o777 == 0o600
    assert not list(written.out.glob(f"{iso.TEMPORARY_PREFIX}*"))


def test_everything_is_where_the_installer_and_grub_look_for_it(written: Medium, tmp_path: Path) -> None:
    run(["xorriso", "-osirrox", "on", "-indev", written.path, "-extract", "/", tmp_path / "files"])
    for path, name in written.artifacts.items():
        # The El Torito image is told its place: a boot information table is written into it.
        if not path.endswith(loaders.ELTORITO):
            assert (tmp_path / "files" / path.lstrip("/")).read_bytes() == (written.out / name).read_bytes(), path
    assert (tmp_path / "files/xenpair/seed.img").read_bytes() == written.seed.read_bytes()
    assert (tmp_path / "files/boot/grub/grub.cfg").read_text() == written.menu


def test_its_date_is_the_one_that_the_boot_loaders_look_for(written: Medium) -> None:
    done = run(["xorriso", "-indev", written.path, "-pvd_info"])
    modified = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Modif. Time"))
    assert modified.split()[-1] == loaders.volume_uuid(DATE).replace("-", "")


def test_it_is_not_written_again_for_the_same_content(written: Medium) -> None:
    before = written.path.read_bytes()
    assert not write_iso(written)
    written.path.unlink()
    assert write_iso(written)
    assert written.path.read_bytes() == before


def test_another_seed_another_image_or_a_wrong_mode_is_a_reason(written: Medium) -> None:
    write_seed(EXAMPLE, "join: other\n", written.seed)
    assert write_iso(written)
    other = replace(written, made=written.made.model_copy(update={"root_uuid": UUID.replace("6", "7")}))
    assert write_iso(other)
    written.path.chmod(0o644)
    assert write_iso(other)
    assert not write_iso(other)


def test_one_that_is_cut_off_is_written_again(written: Medium) -> None:
    with written.path.open("r+b") as f:
        f.truncate(written.path.stat().st_size // 2)
    assert write_iso(written)
