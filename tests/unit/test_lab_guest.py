"""The lab's guest: its ramdisk, and what its diary tells."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import pytest
import yaml

from config.door import run
from config.loader import load
from lab.campaign.audits import forgotten, ran_twice
from lab.guest import BUSYBOX, DIARY, GUESTS, SCRIPTS, Answer, Entry, cpio, described, diary, heard, ramdisk, read_diary

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


def test_what_a_guest_has_answered_for_and_is_not_in_its_diary_is_found() -> None:
    entries = diary(lines(("a", 0, "alone"), ("b", 1, "alone")))
    assert forgotten(entries, [Answer("web01", "a" * 8, 0), Answer("web01", "b" * 8, 1)]) == []
    # It was started from an older disk: the next boot has written over what it had not found there.
    assert forgotten(entries, [Answer("web01", "a" * 8, 1)]) == ["entry 1 of boot aaaaaaaa is gone"]


def test_an_empty_diary_proves_nothing_and_is_a_finding() -> None:
    assert ran_twice(()) == []
    assert forgotten((), []) == ["its diary is empty"]


@pytest.mark.parametrize("text", ["", "web01 0123abcd", "<BODY><H1>404 Not Found</H1>", "web01 0123abcd many"])
def test_what_is_no_answer_of_a_guest_is_none(text: str) -> None:
    assert heard(text) is None


def test_an_answer_says_who_which_boot_and_what_is_on_the_disk() -> None:
    assert heard("web01 0123abcd 17\n") == Answer("web01", "0123abcd", 17)


def keep_diary(directory: Path, boot: str, turn: str, *, disk: Path | None = None) -> str:
    """The guest's own script at a small disk, with what is to happen in place of its second of sleep."""
    where = disk or directory / "disk"
    if not where.exists():
        where.write_bytes(bytes(32 << 10))
    (directory / "diary").write_text(DIARY.replace("sleep 1", turn))
    argv: list[str | Path] = [BUSYBOX, "sh", directory / "diary", where, "web01", boot * 8, directory / "now"]
    return run(argv, check=False, timeout=60).stdout


def kept(directory: Path) -> tuple[Entry, ...]:
    """What the command of the audit reads of it."""
    command = read_diary("data", "web01").replace("/dev/data/web01", str(directory / "disk"))
    return diary(run(["sh", "-c", command.replace("iflag=direct", "")]).stdout)


def test_each_boot_writes_on_where_the_last_one_ended(tmp_path: Path, real_programs: None) -> None:
    keep_diary(tmp_path, "a", '[ "$at" -lt 3 ] || exit')
    keep_diary(tmp_path, "b", '[ "$at" -lt 5 ] || exit')
    entries = kept(tmp_path)
    assert [(entry.boot[0], entry.at) for entry in entries] == [("a", 0), ("a", 1), ("a", 2), ("b", 3), ("b", 4)]
    assert ran_twice(entries) == []
    said = heard((tmp_path / "now").read_text())
    assert said == Answer("web01", "b" * 8, 4)
    assert forgotten(entries, [said]) == []


def test_two_copies_that_write_at_once_are_found_out_even_with_one_boot_id(tmp_path: Path, real_programs: None) -> None:
    # A second copy of the same boot, as of a live migration with both ends running, has been faster.
    sector = f"xenpair-diary {'a' * 8} 1 9.9 alone"
    faster = f"printf '%-511s\\n' '{sector}' | dd of=$disk bs=512 seek=1 count=1 conv=notrunc 2>/dev/null"
    keep_diary(tmp_path, "a", f'[ "$at" -lt 2 ] || exit; {faster}')
    assert ran_twice(kept(tmp_path)) == [f"boot {'a' * 8} found entry 1 written by somebody else"]


def test_what_the_disk_refuses_is_not_answered_for(tmp_path: Path, real_programs: None) -> None:
    # A directory can neither be read nor written to.
    said = keep_diary(tmp_path, "a", "exit", disk=tmp_path)
    assert said == "lab guest web01 aaaaaaaa: its disk refuses entry 0\n"
    assert not (tmp_path / "now").exists()


def test_the_diary_asks_for_no_direct_io() -> None:
    # xen-blkfront refuses busybox's buffers, and files, here and elsewhere, do not: no test would notice.
    assert "direct" not in "".join(line for line in DIARY.splitlines() if not line.startswith("#"))


def test_the_ramdisk_is_an_archive_that_cpio_unpacks(tmp_path: Path, real_programs: None) -> None:
    files = {"bin": (stat.S_IFDIR | 0o755, b""), "bin/odd": (stat.S_IFREG | 0o755, b"12345"), "x": (stat.S_IFREG, b"")}
    (tmp_path / "archive").write_bytes(cpio(files))
    run([BUSYBOX, "cpio", "-id", "-F", "archive"], cwd=tmp_path)
    assert (tmp_path / "bin/odd").read_bytes() == b"12345"
    assert (tmp_path / "bin/odd").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "x").exists()


def test_the_guests_scripts_are_sound_shell_and_in_its_ramdisk(tmp_path: Path, real_programs: None) -> None:
    archive = gzip.decompress(ramdisk({}, b"busybox"))
    (tmp_path / "archive").write_bytes(archive.replace(b"dev/console", b"dev/consol_"))
    # Without root the console cannot be made, and nothing else is wanted.
    run([BUSYBOX, "cpio", "-id", "-F", "archive", *SCRIPTS], cwd=tmp_path, check=False)
    for script in SCRIPTS:
        assert (tmp_path / script).stat().st_mode & 0o777 == 0o755
        run([BUSYBOX, "sh", "-n", tmp_path / script])


def test_the_guests_stand_in_the_example_config_without_an_error(tmp_path: Path) -> None:
    document = yaml.safe_load(CONFIG.read_text())
    document["guests"] = [described(name, home, address) for name, (home, address) in GUESTS.items()]
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(document))
    assert len(load(tmp_path / "cluster.yaml").cluster.guests) == len(GUESTS)
