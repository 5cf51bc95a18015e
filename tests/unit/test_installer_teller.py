"""What the installer says, and how it stays where something has failed."""

from __future__ import annotations

import os
import pty
import select
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.errors import XenpairError
from firstboot.errors import InstallError
from firstboot.herald import Report
from firstboot.installer import __main__ as program
from firstboot.installer import devices, network
from firstboot.installer.arguments import Arguments, FromServer
from firstboot.installer.teller import Consoles, Teller

ORIGIN = FromServer("https://10.0.0.9:8443", "ab" * 32, "http://10.0.0.9/image", "10.0.0.7/24", "", "52:54:00:10:32:01")


@dataclass
class Screen:
    """A console that can be read, and somebody who can type on it."""

    teller: Teller
    people: int

    def lines(self) -> list[str]:
        """What was said since; a terminal hands it over in pieces."""
        said = b""
        while select.select([self.people], [], [], 0.1)[0]:
            said += os.read(self.people, 1 << 16)
        return said.decode().splitlines()


@pytest.fixture
def screen() -> Iterator[Screen]:
    people, terminal = pty.openpty()
    settings = termios.tcgetattr(terminal)
    settings[1] &= ~termios.OPOST
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
    consoles = Consoles([Path("/dev/none"), Path(os.ttyname(terminal))])
    yield Screen(Teller(consoles), people)
    os.close(people)
    os.close(terminal)


class FakeHerald:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Report] = []

    def tell(self, report: Report) -> None:
        self.told.append(report)


def test_each_step_is_told_with_its_number_and_its_seconds(screen: Screen) -> None:
    with screen.teller.step("write"):
        screen.teller.running("42% 120M of 290M, 35M/s, 5 s left", 42)
        screen.teller.waiting("the server is away")
        screen.teller.waiting("the server is away")
    lines = screen.lines()
    assert lines[:-1] == [
        "xenpair install: [5/7] write: begin",
        "xenpair install: [5/7] write: running: 42% 120M of 290M, 35M/s, 5 s left",
        "xenpair install: [5/7] write: waiting: the server is away",
        "xenpair install: [5/7] write: done",
    ]
    assert lines[-1].startswith("xenpair install: timing: write 0.")


def test_the_server_is_told_the_same(screen: Screen) -> None:
    herald = FakeHerald()
    screen.teller.herald = herald  # type: ignore[assignment]
    screen.teller.machine = "52:54:00:10:32:01"
    with screen.teller.step("hand-over"):
        screen.teller.heard("t1")
        screen.teller.running("half", 50)
        screen.teller.failed("no\n  because")
    begun, half, failed, _ = herald.told
    assert (begun.ticket, begun.machine, begun.step, begun.state) == ("", "52:54:00:10:32:01", "hand-over", "running")
    assert (half.ticket, half.percent, half.phase) == ("t1", 50, "installer")
    assert (failed.state, failed.text, failed.percent) == ("failed", "no\n  because", None)
    assert failed.log[-2:] == ("[6/7] hand-over: failed: no", "[6/7] hand-over:   because")


def test_enter_is_waited_for_and_nothing_else(screen: Screen) -> None:
    staying = threading.Thread(target=screen.teller.stay)
    staying.start()
    os.write(screen.people, b"x")
    staying.join(0.1)
    assert staying.is_alive()
    os.write(screen.people, b"\n")
    staying.join(5)
    assert not staying.is_alive()
    assert screen.lines() == ["xenpair install: stopped; nothing happens until Enter is pressed, which tries again"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InstallError("no medium", hint="plug it in"), ["failed: no medium", "  plug it in"]),
        (OSError(5, "Input/output error"), ["failed: the system refuses: [Errno 5] Input/output error"]),
        (KeyboardInterrupt(), ["failed: interrupted"]),
        (ZeroDivisionError("x"), ["failed: this is a bug: ZeroDivisionError: x"]),
    ],
)
def test_whatever_goes_wrong_is_said_and_nothing_ends(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: list[str]
) -> None:
    def attempt(_: Arguments, __: Teller) -> None:
        raise error

    monkeypatch.setattr(program, "_attempt", attempt)
    monkeypatch.setattr(program, "parse_arguments", lambda _: Arguments(ORIGIN))
    assert not program._try(screen.teller)
    steps = [line.removeprefix("xenpair install: [1/7] source: ") for line in screen.lines() if "source" in line]
    assert steps[: len(said)] == said


def test_after_a_failure_it_stays_and_tries_again_and_only_then_reboots(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def attempt(_: Arguments, __: Teller) -> None:
        happened.append("attempt")
        if len(happened) == 1:
            raise XenpairError("no")

    monkeypatch.setattr(program, "_attempt", attempt)
    monkeypatch.setattr(program, "parse_arguments", lambda _: Arguments(ORIGIN))
    monkeypatch.setattr(program, "Teller", lambda _: screen.teller)
    monkeypatch.setattr(screen.teller, "stay", lambda: happened.append("stay"))
    monkeypatch.setattr(program, "_reboot", lambda: happened.append("reboot"))
    monkeypatch.setattr(Consoles, "of_kernel", lambda: None)
    program.main()
    assert happened == ["attempt", "stay", "attempt", "reboot"]


def test_a_medium_that_shows_up_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "BY_LABEL", tmp_path)
    monkeypatch.setattr(devices, "SOON", 0.0)
    said: list[str] = []

    def waiting(reason: str) -> None:
        said.append(reason)
        (tmp_path / "XENPAIR_INSTALL").touch()

    assert devices.await_medium("XENPAIR_INSTALL", waiting) == tmp_path / "XENPAIR_INSTALL"
    assert said == ["no medium labelled XENPAIR_INSTALL has shown up yet; plug it in, or into another port"]


def test_the_card_that_was_booted_by_gets_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    said: list[str] = []
    for name, mac in (("eth0", "52:54:00:13:20:01"), ("eth1", "52:54:00:10:32:01")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "address").write_text(f"{mac}\n")

    def waiting(reason: str) -> None:
        said.append(reason)
        (tmp_path / "eth1" / "carrier").write_text("1\n")

    monkeypatch.setattr(network, "CARDS", tmp_path)
    monkeypatch.setattr(network, "SOON", 0.0)
    monkeypatch.setattr(network, "run", lambda argv: ran.append(" ".join(argv)))
    network.bring_up(ORIGIN, waiting)
    assert ran == ["ip link set dev eth1 up", "ip address replace 10.0.0.7/24 dev eth1"]
    assert said == ["eth1 (52:54:00:10:32:01) has no link: is its cable plugged in?"]
