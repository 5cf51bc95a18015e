"""The lab's guest: its ramdisk, and what its diary tells."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import yaml

from config.door import run
from config.loader import load
from lab.campaign.audits import ran_twice
from lab.guest import BUSYBOX, GUESTS, cpio, described, diary, ramdisk

CONFIG = Path(__file__).parents[2] / "config" / "cluster.yaml"


def lines(*entries: tuple[str, int, str]) -> str:
    return "".join(f"xenpair-diary {boot * 8} {at} 12.34 {word} \n" for boot, at, word in entries)


def test_a_guest_that_was_started_again_and_again_ran_alone() -> None:
    text = lines(("a", 0, "alone"), ("a", 1, "alone"), ("b", 2, "alone"), ("c", 3, "alone"))
    assert [entry.at for entry in diary(text)] == [0, 1, 2, 3]
    assert ran_twice(diary(text)) == []


def test_a_boot_that_writes_on_after_the_next_one_has_begun_was_not_alone() -> None:
    text = lines(("a", 0, "alone"), ("b", 1, "alone"), ("a", 2, "alone"))
    assert ran_twice(diary(text)) == ["boot aaaaaaaa writes entry 2 after boot bbbbbbbb has begun"]


def test_a_boot_that_meets_what_it_has_not_written_was_not_alone() -> None:
    assert ran_twice(diary(lines(("a", 0, "alone"), ("a", 1, "collision")))) != []


def test_what_is_no_entry_is_passed_over() -> None:
    assert diary("xenpair-diary half\n" + lines(("a", 0, "alone"))) == diary(lines(("a", 0, "alone")))


def test_the_ramdisk_is_an_archive_that_cpio_unpacks(tmp_path: Path, real_programs: None) -> None:
    files = {"bin": (stat.S_IFDIR | 0o755, b""), "bin/odd": (stat.S_IFREG | 0o755, b"12345"), "x": (stat.S_IFREG, b"")}
    (tmp_path / "archive").write_bytes(cpio(files))
    run([BUSYBOX, "cpio", "-id", "-F", "archive"], cwd=tmp_path)
    assert (tmp_path / "bin/odd").read_bytes() == b"12345"
    assert (tmp_path / "bin/odd").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "x").exists()


def test_the_guests_scripts_are_sound_shell(tmp_path: Path, real_programs: None) -> None:
    archive = gzip.decompress(ramdisk({}, b"busybox"))
    (tmp_path / "archive").write_bytes(archive.replace(b"dev/console", b"dev/consol_"))
    run([BUSYBOX, "cpio", "-id", "-F", "archive", "init", "sbin/poweroff", "sbin/reboot"], cwd=tmp_path, check=False)
    for script in ("init", "sbin/poweroff", "sbin/reboot"):
        run([BUSYBOX, "sh", "-n", tmp_path / script])


def test_the_guests_stand_in_the_example_config_without_an_error(tmp_path: Path) -> None:
    document = yaml.safe_load(CONFIG.read_text())
    document["guests"] = [described(name, home, address) for name, (home, address) in GUESTS.items()]
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(document))
    assert len(load(tmp_path / "cluster.yaml").cluster.guests) == len(GUESTS)
