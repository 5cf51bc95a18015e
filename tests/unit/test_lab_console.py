"""Reading a node's console."""

from pathlib import Path

import pytest

from lab.console import TAIL, Console, Follower, Progress, Stage, advance, clean

CAPTURED = Path(__file__).parent / "captured"
BOOT = (CAPTURED / "console-boot.txt").read_bytes()
INSTALLATION = (CAPTURED / "console-install.txt").read_bytes()
"""Over the network on BIOS, up to the installed system's first lines; most of the kernel's and Xen's are left out."""


def stages(data: bytes, piece: int) -> list[Stage]:
    console, seen = Console(), [Stage.FIRMWARE]
    for start in range(0, len(data), piece):
        console.feed(data[start : start + piece])
        if console.progress.stage != seen[-1]:
            seen.append(console.progress.stage)
    return seen


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_a_real_boot_is_followed_through_its_stages_in_pieces_of_any_size(piece: int) -> None:
    assert stages(BOOT, piece) == [Stage.FIRMWARE, Stage.GRUB, Stage.XEN, Stage.LINUX, Stage.SYSTEMD, Stage.LOGIN]


def test_a_login_prompt_is_seen_though_its_line_never_ends() -> None:
    console = Console()
    console.feed(b"\r\nDebian GNU/Linux 13 xen1 hvc0\r\n\r\nxen1 login: ")
    assert console.progress.stage is Stage.LOGIN


def test_the_kept_lines_have_no_escapes_no_blanks_and_no_spinner() -> None:
    console = Console()
    console.feed(BOOT)
    text = console.last_lines()
    assert "\x1b" not in text
    assert "\r" not in text
    assert "(1min 31s" not in text
    assert "[  OK  ] Started ssh.service - OpenBSD Secure Shell server." in text
    assert len(text.splitlines()) == TAIL


def test_a_colour_and_a_window_title_are_removed() -> None:
    assert clean("\x1b[0;32m  OK  \x1b[0m\x1b]0;title\x07 done\r\r") == "  OK   done"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("xenpair: [3/9] join: begin", "[3/9] join: begin"),
        ("xenpair: [3/9] join: waiting: for xen2: no answer", "[3/9] join: waiting: for xen2: no answer"),
        ("[   93.1] xenpair[512]: xenpair: [4/9] drbd: resumed", "[4/9] drbd: resumed"),
        ("xenpair: [9/9] heartbeat: done", "[9/9] heartbeat: done"),
    ],
)
def test_a_step_line_is_shown_as_the_node_told_it(line: str, text: str) -> None:
    progress = advance(Progress(Stage.LOGIN), line)
    assert (progress.stage, progress.text, progress.failure) == (Stage.STEPS, text, "")


def test_a_failed_step_is_a_failure_until_the_node_tells_of_another() -> None:
    failed = advance(Progress(Stage.LOGIN), "xenpair: [2/9] disks: failed: sdb has a partition table")
    assert failed.failure == "[2/9] disks: failed: sdb has a partition table"
    assert advance(failed, "xenpair: [2/9] disks: begin").failure == ""


def test_formed_is_seen_and_a_late_login_prompt_does_not_undo_it() -> None:
    formed = advance(Progress(Stage.STEPS), "xenpair: formed")
    assert formed.formed
    assert advance(formed, "xen1 login: ").formed


@pytest.mark.parametrize(
    "line",
    [
        "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs",
        "(XEN) Xen BUG at mm.c:123",
        "(XEN) Panic on CPU 0:",
        "(XEN) d0v0 Unhandled: vec 14, #PF[0001]",
        "ALERT!  UUID=123 does not exist.  Dropping to a shell!",
    ],
)
def test_a_panic_is_a_failure(line: str) -> None:
    assert advance(Progress(Stage.LINUX), line).failure


@pytest.mark.parametrize("banner", ["GNU GRUB  version 2.12", "(XEN) Xen version 4.20.5-pre (Debian)"])
def test_a_boot_message_after_later_stages_is_a_reboot(banner: str) -> None:
    progress = advance(Progress(Stage.FORMED), banner)
    assert not progress.formed
    assert progress.reboots == 1


def test_a_follower_starts_at_its_offset_and_reads_on(tmp_path: Path) -> None:
    log = tmp_path / "xen1.log"
    follower = Follower(log, offset=len(b"xenpair: formed\n"))
    assert follower.poll().stage is Stage.FIRMWARE
    log.write_bytes(b"xenpair: formed\n")
    assert follower.poll().stage is Stage.FIRMWARE
    with log.open("ab") as f:
        f.write(b"xenpair: [1/9] identity: beg")
        f.flush()
        follower.poll()
        f.write(b"in\n")
    assert follower.poll().text == "[1/9] identity: begin"


def follow(*lines: str) -> list[Progress]:
    progress, seen = Progress(), []
    for line in lines:
        seen.append(progress := advance(progress, line))
    return seen


def test_an_installation_and_the_boot_after_it_are_one_way_up() -> None:
    seen = follow(
        "Welcome to GRUB!",
        "GNU GRUB  version 2.12",
        "[    0.000000] Linux version 6.12.48+deb13-amd64",
        "xenpair install: [1/7] source: begin",
        "xenpair install: [5/7] write: running: 42% 120M of 290M, 35M/s, 5 s left",
        "xenpair install: [7/7] boot: done",
        "xenpair install: installed",
        "GNU GRUB  version 2.12",
        "(XEN) Xen version 4.20.5-pre (Debian)",
    )
    stages = [Stage.FIRMWARE, Stage.GRUB, Stage.GRUB, *[Stage.INSTALLER] * 4, Stage.GRUB, Stage.XEN]
    assert [progress.stage for progress in seen] == stages
    assert {(progress.reboots, progress.failure) for progress in seen} == {(0, "")}
    assert [progress.text for progress in seen[5:8]] == ["[7/7] boot: done", "installed", "GRUB"]


def test_a_real_installation_is_followed_to_the_installed_systems_kernel() -> None:
    console, states = Console(), set()
    assert stages(INSTALLATION, 100) == [Stage.FIRMWARE, Stage.INSTALLER, Stage.GRUB, Stage.XEN, Stage.LINUX]
    for line in INSTALLATION.splitlines(keepends=True):
        console.feed(line)
        assert not console.progress.failure
        states.add(console.progress.text)
    assert console.progress.reboots == 0
    assert states > {"[5/7] write: running", "[7/7] boot: done", "installed"}


def test_how_much_is_written_is_told_beside_the_step_which_stays_the_same() -> None:
    seen = follow(*(f"xenpair install: [5/7] write: running: {n}% of 290M" for n in (1, 2)))
    assert [progress.text for progress in seen] == ["[5/7] write: running"] * 2
    assert [progress.step and progress.step.text for progress in seen] == ["1% of 290M", "2% of 290M"]


def test_a_failed_installation_is_a_failure() -> None:
    (failed,) = follow("xenpair install: [3/7] disk: failed: no disk has the serial system-*")
    assert failed.failure == "[3/7] disk: failed: no disk has the serial system-*"


def test_a_machine_that_starts_over_while_it_is_installed_has_rebooted() -> None:
    assert follow("xenpair install: [5/7] write: begin", "GNU GRUB  version 2.12")[-1].reboots == 1
