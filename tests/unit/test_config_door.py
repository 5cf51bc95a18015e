"""The one door: what run() and write_file() promise."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from config.door import copy_file, run, sha256_of, write_file
from config.errors import CommandError, CopyError

pytestmark = pytest.mark.usefixtures("real_programs")


def test_output_and_exit_code_come_back() -> None:
    output = run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (output.returncode, output.stdout, output.stderr) == (3, "out\n", "err\n")


def test_a_failure_carries_the_command_the_code_and_the_last_words() -> None:
    with pytest.raises(CommandError, match=r"sh -c 'echo why >&2; exit 3': exit code 3\n  why") as error:
        run(["sh", "-c", "echo why >&2; exit 3"])
    assert error.value.returncode == 3


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-program: cannot be started: No such file"):
        run(["no-such-program"])


def test_at_the_timeout_the_children_die_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandError, match="killed"):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout=0.5)
    child = int(pid_file.read_text())
    for _ in range(50):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the child of a killed program lives on")


def test_what_cannot_be_killed_is_waited_for_only_unless_it_is_forsaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill, pid_file = os.killpg, tmp_path / "pid"
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    with pytest.raises(CommandError, match="no end after"):
        run(["sh", "-c", f"echo $$ > {pid_file}; exec sleep 10"], timeout=0.5, forsake=True)
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    kill(pid, signal.SIGKILL)


def test_standard_input_is_empty_unless_text_is_given() -> None:
    assert run(["cat"]).stdout == ""
    assert run(["cat"], stdin="text").stdout == "text"


def test_the_environment_is_built_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    names = {line.partition("=")[0] for line in run(["env"]).stdout.splitlines()}
    assert names <= {"LANG", "PATH", "HOME", "PWD", "SHLVL", "_"}


def test_a_secret_that_a_program_prints_does_not_come_through() -> None:
    script = ["sh", "-c", 'echo "$0 out"; echo "$0 err" >&2; exit "$1"']
    output = run([*script, "s3cret", "0"], blot=["s3c.et"])
    assert (output.stdout, output.stderr) == ("[secret] out\n", "[secret] err\n")
    with pytest.raises(CommandError) as error:
        run(["sh", "-c", "cat >&2; exit 1"], stdin="s3cret", blot=["s3cret"])
    assert "s3cret" not in str(error.value)


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "authkeys"
    assert write_file(path, "one\n", mode=0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("one\n", 0o600)
    assert write_file(path, b"two\n", mode=0o600)
    assert path.read_text() == "two\n"
    assert [p.name for p in path.parent.iterdir()] == ["authkeys"]


def test_an_unchanged_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, "same")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert write_file(path, "same") is False
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert write_file(path, "same", mode=0o600) is True


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_file(path, "old")

    def broken(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("config.door.os.fsync", broken)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


class TestCopyFile:
    """Copies of files that may be too large to be read whole."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        source = tmp_path / "source"
        source.write_bytes(os.urandom((2 << 20) + 7))
        return source

    def test_a_copy_is_whole_and_has_its_mode(self, source: Path, tmp_path: Path) -> None:
        target = tmp_path / "there" / "copy"
        assert copy_file(source, target, sha256=sha256_of(source), mode=0o600)
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_mode & 0o777 == 0o600

    def test_what_is_there_already_is_not_copied_again(self, source: Path, tmp_path: Path) -> None:
        target, total = tmp_path / "copy", sha256_of(source)
        copy_file(source, target, sha256=total)
        source.unlink()
        inode = target.stat().st_ino
        assert not copy_file(source, target, sha256=total)
        assert target.stat().st_ino == inode

    def test_a_damaged_source_leaves_the_old_file_and_nothing_else(self, source: Path, tmp_path: Path) -> None:
        target = tmp_path / "there" / "copy"
        write_file(target, "old")
        total = sha256_of(source)
        with source.open("r+b") as f:
            f.write(b"XXXX")
        with pytest.raises(CopyError, match=f"source is damaged: its sha256 is .*, and should be {total}"):
            copy_file(source, target, sha256=total)
        assert [path.read_text() for path in target.parent.iterdir()] == ["old"]
