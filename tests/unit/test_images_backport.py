"""What is asked of the newer suite, and what must not come from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.door import Output
from config.model import Backport, Debian
from images import backport
from images.backport import Request, foreign, rebuild_argv, take_argv
from images.sources import Mirror

MIRROR = Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")
DRBD = Backport(package="drbd-utils")

TAKEN = """\
Package: xen-tools
Version: 4.9.2-1
Architecture: all
Filename: ./xen-tools_4.9.2-1_all.deb
"""
"""From dpkg-scanpackages, shortened."""


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backport, "run", lambda _: Output(0, "mmdebstrap 1.3.5\n", ""))
    monkeypatch.setattr("images.sources.run", lambda _: Output(0, "", ""))


def request(wanted: Backport = DRBD, mirror: Mirror = MIRROR) -> Request:
    return Request.of(wanted, Debian(), mirror)


def test_whatever_is_asked_for_changes_the_key_and_nothing_else_does() -> None:
    asked = [
        DRBD,
        Backport(package="xen-tools"),
        Backport(package="drbd-utils", suite="forky"),
        Backport(package="drbd-utils", rebuild=False),
        Backport(package="drbd-utils", tests=False),
    ]
    keys = {request(wanted).key for wanted in asked}
    assert len(keys) == len(asked)
    assert request(mirror=Mirror("http://other.example/debian", MIRROR.security)).key not in keys
    assert request().key == request().key


def test_a_rebuild_takes_nothing_but_the_source_from_the_newer_suite() -> None:
    lines = [word for word in rebuild_argv(request(), Path("/made")) if MIRROR.main in word]
    assert [line.split()[0] for line in lines if "sid" in line.split()] == ["deb-src"]
    assert all("signed-by=" in line for line in lines)


def test_the_packages_own_tests_can_be_switched_off() -> None:
    def hook(wanted: Backport) -> str:
        return next(word for word in rebuild_argv(request(wanted), Path("/made")) if "/backport-script drbd" in word)

    assert hook(DRBD).endswith("drbd-utils trixie '~xenpair13+1' yes >&2")
    assert hook(Backport(package="drbd-utils", tests=False)).endswith(" no >&2")


def test_a_package_that_is_taken_as_it_is_is_downloaded_and_installed_nowhere() -> None:
    argv = take_argv(request(Backport(package="xen-tools", rebuild=False)), Path("/made"))
    assert "--variant=custom" in argv
    assert not [word for word in argv if word.startswith("--include")]


def test_only_what_suits_every_architecture_is_taken_as_it_is() -> None:
    assert foreign(TAKEN) == ""
    assert foreign(TAKEN + "\n" + TAKEN.replace("Architecture: all", "Architecture: amd64")) == "amd64"
