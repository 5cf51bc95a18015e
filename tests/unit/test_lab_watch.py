"""Waiting for the nodes, and telling what hangs."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import watch
from lab.console import Stage
from lab.errors import NotFormedError, StartError
from lab.process import Process


@pytest.fixture
def qemu(real_programs: None, tmp_path: Path) -> Iterator[Process]:
    process = Process.spawn(["sleep", "60"], cwd=tmp_path, log=tmp_path / "err")
    yield process
    process.kill()


def nothing() -> None:
    pass


def nobody(name: str) -> Process:
    raise AssertionError(f"{name} is not to be powered on")


def node(directory: Path, process: Process, name: str, console: str) -> watch.Watched:
    (directory / f"{name}.log").write_text(console)
    return watch.follow(directory, name, process, 0)


def test_it_ends_when_all_nodes_are_formed_and_tells_the_seconds(tmp_path: Path, qemu: Process) -> None:
    out = io.StringIO()
    nodes = [node(tmp_path, qemu, name, "xenpair: [9/9] x: done\nxenpair: formed\n") for name in ("xen1", "xen2")]
    marks = watch.wait(nodes, Stage.FORMED, 5, watch.display(out), nothing, power_on=nobody)
    assert set(marks) == {"xen1", "xen2"}
    assert 0 <= marks["xen1"]["Formed"] < 30
    assert [line.split("s  ")[1] for line in out.getvalue().splitlines()] == ["xen1  Formed", "xen2  Formed"]


def test_a_failed_step_ends_the_wait_and_names_the_node(tmp_path: Path, qemu: Process) -> None:
    nodes = [
        node(tmp_path, qemu, "xen1", "xen1 login: \n"),
        node(tmp_path, qemu, "xen2", "probing\nxenpair: [2/9] disks: failed: two match\n"),
    ]
    with pytest.raises(NotFormedError, match=r"xen2 failed: \[2/9\] disks: failed: two match(?s:.*)\| probing"):
        watch.wait(nodes, Stage.FORMED, 60, watch.display(io.StringIO()), nothing, power_on=nobody)


def test_a_node_that_went_off_ends_the_wait(tmp_path: Path, qemu: Process) -> None:
    nodes = [node(tmp_path, qemu, "xen1", "last words\n")]
    qemu.kill()
    with pytest.raises(NotFormedError, match=r"xen1 is off(?s:.*)last words"):
        watch.wait(nodes, Stage.FORMED, 60, watch.display(io.StringIO()), nothing, power_on=nobody)


def test_a_node_that_ends_at_the_installers_reset_is_powered_on_and_waited_for(tmp_path: Path, qemu: Process) -> None:
    watched = node(tmp_path, qemu, "xen1", "xenpair install: [7/7] boot: done\nxenpair install: installed\n")
    qemu.kill()
    again = Process.spawn(["sleep", "60"], cwd=tmp_path, log=tmp_path / "log")

    def power_on(name: str) -> Process:
        with (tmp_path / f"{name}.log").open("a") as console:
            console.write("xenpair: formed\n")
        return again

    try:
        marks = watch.wait([watched], Stage.FORMED, 60, watch.display(io.StringIO()), nothing, power_on=power_on)
    finally:
        again.kill()
    assert list(marks["xen1"]) == ["installed", "Formed"]


def test_at_the_timeout_only_the_nodes_that_hang_are_named_and_where(tmp_path: Path, qemu: Process) -> None:
    nodes = [
        node(tmp_path, qemu, "xen1", "xenpair: formed\n"),
        node(tmp_path, qemu, "xen2", "xenpair: [3/9] join: waiting: for xen1\n"),
    ]
    with pytest.raises(NotFormedError) as caught:
        watch.wait(nodes, Stage.FORMED, 0.1, watch.display(io.StringIO()), nothing, power_on=nobody)
    assert "xen2 hangs at '[3/9] join: waiting: for xen1'" in caught.value.message
    assert "xen1 hangs" not in caught.value.message
    assert "lab.down" in caught.value.hint


def test_the_end_of_something_else_ends_the_wait(tmp_path: Path, qemu: Process) -> None:
    def guard() -> None:
        raise StartError("the lab's switch ended")

    with pytest.raises(StartError):
        watch.wait(
            [node(tmp_path, qemu, "xen1", "")], Stage.FORMED, 60, watch.display(io.StringIO()), guard, power_on=nobody
        )


def test_off_a_terminal_a_line_is_printed_for_a_change_only(tmp_path: Path, qemu: Process) -> None:
    out = io.StringIO()
    screen, watched = watch.display(out), node(tmp_path, qemu, "xen1", "GNU GRUB\n")
    for _ in range(3):
        screen.show([watched.poll()])
    assert len(out.getvalue().splitlines()) == 1
