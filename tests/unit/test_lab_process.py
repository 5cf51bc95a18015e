"""Processes that outlive the command that started them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import StartError
from lab.process import Process

pytestmark = pytest.mark.usefixtures("real_programs")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = Process.spawn(["sleep", "60"], cwd=tmp_path, log=tmp_path / "log")
    yield process
    process.kill()


def test_a_process_is_alive_until_it_is_killed(sleeper: Process) -> None:
    assert sleeper.alive()
    assert not sleeper.wait(0.01)
    sleeper.kill()
    assert not sleeper.alive()
    sleeper.kill()


def test_what_was_written_down_finds_the_process_again(sleeper: Process) -> None:
    again = Process.model_validate_json(sleeper.model_dump_json())
    assert again.alive()
    again.terminate()
    assert not sleeper.alive()


def test_a_reused_pid_is_neither_alive_nor_killed(sleeper: Process) -> None:
    stranger = sleeper.model_copy(update={"started": sleeper.started - 1})
    assert not stranger.alive()
    stranger.kill()
    assert sleeper.alive()


def test_a_process_from_before_the_host_s_reboot_is_neither_alive_nor_killed(sleeper: Process) -> None:
    before = sleeper.model_copy(update={"boot_id": "00000000-0000-0000-0000-000000000000"})
    assert not before.alive()
    before.kill()
    assert sleeper.alive()


def test_one_that_ignores_sigterm_is_killed_in_the_end(tmp_path: Path) -> None:
    argv = ["bash", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
    process = Process.spawn(argv, cwd=tmp_path, log=tmp_path / "log")
    while "ready" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    process.terminate(timeout=0.2)
    assert not process.alive()


def test_it_has_a_session_of_its_own_so_that_ctrl_c_spares_it(sleeper: Process) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert os.getpgid(sleeper.pid) != os.getpgid(0)


def test_an_ended_child_is_reaped(tmp_path: Path) -> None:
    process = Process.spawn(["true"], cwd=tmp_path, log=tmp_path / "log")
    assert process.wait(5)
    assert not process.alive()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no-such-program cannot be started: No such file"):
        Process.spawn(["no-such-program"], cwd=tmp_path, log=tmp_path / "log")
