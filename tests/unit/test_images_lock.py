"""A lock says exactly which packages an image is made of, and builds stop where these cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from images import lock
from images.archive import Archive
from images.errors import LockError
from images.lock import Lock, Locked
from images.sources import Offer

ONE, OTHER = "1" * 64, "2" * 64
LOCK = Lock(
    suite="trixie",
    date=1700000000,
    packages={
        "less": Locked(version="668-1", sha256=ONE),
        "libstdc++6": Locked(version="14.2.0-19", sha256=ONE),
        "drbd-utils": Locked(version="9.33~xenpair13+1"),
        "firmware-bnx2": Locked(version="1", sha256=ONE),
    },
)


class StubArchive:
    """An archive with these packages: (name, version, sha256)."""

    def __init__(self, *there: tuple[str, str, str]) -> None:
        self._records = "\n".join(
            f"Package: {name}\nVersion: {version}\nSHA256: {sum_}\n" for name, version, sum_ in there
        )

    def records(self, _: list[str]) -> str:
        return self._records


def archive(*absent: str, **sums: str) -> Archive:
    """One that has all of LOCK, but what is absent; sums: other contents under the same version."""
    rows = LOCK.packages.items()
    there = [(name, row.version, sums.get(name, row.sha256 or ONE)) for name, row in rows if name not in absent]
    return cast(Archive, StubArchive(*there))


def test_what_apt_would_fetch_is_read_with_version_and_sum(captured: Path) -> None:
    found = lock.parse_uris((captured / "apt-print-uris-install.txt").read_text())
    assert found["vim-tiny"].version.startswith("2:9.1.")
    assert found.keys() == {"apt", "less", "libc6", "libstdc++6", "vim-tiny"}
    assert all(len(locked.sha256) == 64 for locked in found.values())


def test_a_package_that_is_rebuilt_here_is_locked_by_its_version_alone() -> None:
    uri = f"'copy:/var/cache/pool/./drbd-utils_9.33_amd64.deb' drbd-utils_9.33_amd64.deb 812 SHA256:{ONE}\n"
    assert lock.parse_uris(uri) == {"drbd-utils": Locked(version="9.33")}


def test_records_of_apt_are_read(captured: Path) -> None:
    found = lock.parse_records((captured / "apt-cache-show.txt").read_text())
    assert list(found) == [("python3", "3.13.5-1")]
    assert found["python3", "3.13.5-1"] == {"c1388174dc7140e6c19a6dd39f8a0dcb38a835cd66c65644e0dded43d5223cb0"}


def test_a_lock_survives_its_file_and_has_a_line_for_each_package(tmp_path: Path) -> None:
    path = tmp_path / "cluster.lock"
    path.write_text(LOCK.to_text())
    assert lock.read(path) == LOCK
    assert sum('"version"' in line for line in LOCK.to_text().splitlines()) == len(LOCK.packages)


def test_without_a_lock_there_is_none_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    path = lock.path_of(tmp_path / "cluster.yaml")
    assert path == tmp_path / "cluster.lock"
    assert lock.read(path) is None
    path.write_text(LOCK.to_text().replace('"date"', '"dat"'))
    with pytest.raises(LockError, match=r"cluster\.lock is no lock: date: Field required"):
        lock.read(path)
    path.write_text("<<<<<<< HEAD\n")
    with pytest.raises(LockError, match="is no lock: the file: Invalid JSON"):
        lock.read(path)


def test_apt_is_told_to_take_these_versions_and_no_other_ones() -> None:
    stanzas = LOCK.preferences(others=-1).split("\n\n")
    assert "Package: libstdc++6\nPin: version 14.2.0-19\nPin-Priority: 1001" in stanzas
    assert stanzas[-1] == "Package: *\nPin: release *\nPin-Priority: -1\n"


def test_what_the_mirror_no_longer_has_is_named_one_by_one() -> None:
    lock.check_available(LOCK, archive())
    with pytest.raises(LockError, match=r"no longer has 2 of .*: less 668-1, libstdc\+\+6 14\.2\.0-19"):
        lock.check_available(LOCK, archive("less", "libstdc++6"))


def test_the_same_version_with_another_content_is_not_the_locked_package() -> None:
    with pytest.raises(LockError, match="less 668-1"):
        lock.check_available(LOCK, archive(less=OTHER))
    lock.check_available(LOCK, archive(**{"drbd-utils": OTHER}))


def test_a_lock_of_another_config_is_refused_with_what_it_lacks() -> None:
    lock.check_covers(LOCK, "trixie", ("less",))
    with pytest.raises(LockError, match="lacks what the config asks for: tcpdump, vim-tiny") as e:
        lock.check_covers(LOCK, "trixie", ("less", "vim-tiny", "tcpdump"))
    assert "invoke lock" in e.value.hint
    with pytest.raises(LockError, match="of trixie, and the config says forky"):
        lock.check_covers(LOCK, "forky", ("less",))


def test_firmware_and_date_are_the_locks_whatever_the_mirror_has_since() -> None:
    bound = LOCK.bound(Offer((), ("firmware-bnx2", "firmware-qlogic"), (), 1800000000))
    assert bound.firmware == ("firmware-bnx2",)
    assert bound.date == LOCK.date


def test_an_update_says_what_it_changes() -> None:
    packages = {**LOCK.packages, "less": Locked(version="669-1", sha256=OTHER), "tcpdump": Locked(version="4")}
    packages["libstdc++6"] = Locked(version="14.2.0-19", sha256=OTHER)
    del packages["firmware-bnx2"]
    assert lock.changes(LOCK, LOCK.model_copy(update={"packages": packages})) == [
        "firmware-bnx2: 1 -> gone",
        "less: 668-1 -> 669-1",
        "libstdc++6: 14.2.0-19 -> 14.2.0-19, another file",
        "tcpdump: not there -> 4",
    ]
    assert lock.changes(None, LOCK) == []
