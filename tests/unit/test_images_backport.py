"""What is asked of a newer suite or of a source of one's own, and what must not come from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.door import Output
from config.model import Backport, Debian
from images import backport
from images.backport import Request, failed_rebuild, fetch_argv, missing_source, rebuild_argv, take_argv
from images.sources import Mirror

MIRROR = Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")
DRBD = Backport(package="drbd-utils")

LOST = """\
Err:1 http://mirror.example/debian sid/main drbd-utils 9.22.0-1.2 (dsc)
  404  Not Found [IP: 203.0.113.80 80]
E: Failed to fetch http://mirror.example/debian/pool/main/d/drbd-utils/drbd-utils_9.22.0-1.2.dsc  404  Not Found [IP: 203.0.113.80 80]
E: Failed to fetch http://mirror.example/debian/pool/main/d/drbd-utils/drbd-utils_9.22.0-1.2.debian.tar.xz  404  Not Found [IP: 203.0.113.80 80]
E: Failed to fetch some archives.
"""  # noqa: E501
"""From apt-get source, of a mirror that has the index and not the files."""


FAILED = """\
   debian/rules override_dh_auto_test
make[1]: *** [debian/rules:5: override_dh_auto_test] Error 3
make[1]: Leaving directory '/build/tree'
make: *** [debian/rules:3: binary] Error 2
dpkg-buildpackage: error: debian/rules binary subprocess returned exit status 2
E: setup failed: E: command failed: chroot "$1" sh /backport-script drbd-utils trixie '~xenpair13+1' yes >&2
E: mmdebstrap failed to run
"""
"""From dpkg-buildpackage and mmdebstrap."""


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


def test_a_source_of_ones_own_counts_by_what_it_holds(tmp_path: Path) -> None:
    tree = tmp_path / "drbd-utils"
    (tree / "debian").mkdir(parents=True)
    (tree / "debian/rules").write_text("one")
    wanted = Backport(package="drbd-utils", source=str(tree))
    keys = [request(wanted).key]
    (tree / ".git").mkdir()
    (tree / ".git/index").write_text("a version control's own")
    assert request(wanted).key == keys[0]
    for change in (
        lambda: (tree / "debian/rules").write_text("two"),
        lambda: (tree / "debian/rules").chmod(0o755),
        lambda: (tree / "debian/more").symlink_to("rules"),
    ):
        change()
        keys.append(request(wanted).key)
    assert len(set(keys)) == 4
    moved = tree.rename(tmp_path / "elsewhere")
    assert request(Backport(package="drbd-utils", source=str(moved))).key == keys[-1]


def test_the_files_that_a_dsc_names_count(tmp_path: Path) -> None:
    dsc, tar = tmp_path / "sl_1.dsc", tmp_path / "sl_1.tar.xz"
    dsc.write_text("Source: sl\nChecksums-Sha256:\n 00 3 sl_1.tar.xz\nFiles:\n 00 3 sl_1.tar.xz\n")
    tar.write_text("one")
    before = request(Backport(package="sl", source=str(dsc))).key
    tar.write_text("two")
    assert request(Backport(package="sl", source=str(dsc))).key != before


def test_a_build_root_knows_nothing_of_the_newer_suite() -> None:
    lines = [word for word in rebuild_argv(request(), Path("/source"), Path("/made")) if MIRROR.main in word]
    assert {line.split()[3] for line in lines} == {"trixie", "trixie-security"}
    (line,) = [word for word in fetch_argv(request(), Path("/source")) if MIRROR.main in word]
    assert line.startswith("deb-src [signed-by=")
    assert line.endswith("sid main")


def test_the_packages_own_tests_can_be_switched_off() -> None:
    def hook(wanted: Backport) -> str:
        argv = rebuild_argv(request(wanted), Path("/source"), Path("/made"))
        return next(word for word in argv if "/backport-script drbd" in word)

    assert hook(DRBD).endswith("drbd-utils trixie '~xenpair13+1' yes >&2")
    assert hook(Backport(package="drbd-utils", tests=False)).endswith(" no >&2")


def test_a_package_that_is_taken_as_it_is_is_downloaded_and_installed_nowhere() -> None:
    argv = take_argv(request(Backport(package="xen-tools", rebuild=False)), Path("/made"))
    assert "--variant=custom" in argv
    assert not [word for word in argv if word.startswith("--include")]


def test_a_source_that_the_mirror_lacks_is_named_and_so_is_what_helps() -> None:
    error = missing_source(DRBD, LOST)
    assert error is not None
    pool = "http://mirror.example/debian/pool/main/d/drbd-utils/drbd-utils_9.22.0-1.2"
    assert f"the source of drbd-utils cannot be had: the mirror lacks {pool}.dsc, {pool}.debian.tar.xz" in str(error)
    assert "`source:`" in error.hint
    absent = missing_source(DRBD, "E: Unable to find a source package for drbd-utils\n")
    assert absent is not None
    assert "sid has no such source package" in absent.message
    assert missing_source(DRBD, "E: something else\n") is None


def test_a_package_that_does_not_build_is_named_with_its_last_words() -> None:
    error = failed_rebuild(request(), FAILED)
    assert error is not None
    assert error.message.startswith("drbd-utils of sid cannot be rebuilt for trixie:\n")
    assert error.message.endswith("make: *** [debian/rules:3: binary] Error 2")
    assert "tests: false" in error.hint
    assert failed_rebuild(request(), LOST) is None
