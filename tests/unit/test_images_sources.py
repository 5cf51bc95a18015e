"""Which mirrors are used, and which settings of the host's apt come along."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from config.model import Debian
from images import sources
from images.errors import MirrorError
from images.sources import Mirror, Offer

DEBIAN = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian\nSuite: oldstable\n"
VENDOR = "Origin: Docker\nLabel: Docker CE\n"
MAIN, SECURITY = "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"


def test_the_hosts_mirrors_are_found(captured: Path) -> None:
    uris = (captured / "apt-print-uris-update.txt").read_text()
    assert sources.find_mirror(uris, lambda _: DEBIAN) == Mirror(MAIN, SECURITY)


def test_a_host_that_has_fetched_no_index_yet_is_understood(captured: Path) -> None:
    uris = (captured / "apt-print-uris-update.txt").read_text()
    assert sources.find_mirror(uris, lambda _: None) == Mirror(MAIN, SECURITY)


def test_another_vendors_archive_is_not_taken_for_debians() -> None:
    uris = (
        "'https://vendor.example/debian/dists/trixie/InRelease' vendor 0\n"
        "'http://m.example/deb/dists/trixie/InRelease' ours 0\n"
    )
    assert sources.find_mirror(uris, lambda name: VENDOR if name == "vendor" else DEBIAN) == Mirror(
        "http://m.example/deb", "http://m.example/deb-security"
    )


def test_a_mirror_that_only_the_host_can_reach_is_passed_over() -> None:
    uris = "'file:/srv/debian/dists/trixie/InRelease' local 0\n"
    assert sources.find_mirror(uris, lambda _: DEBIAN) is None


def test_a_mirror_from_the_config_needs_no_apt() -> None:
    debian = Debian(mirror="http://mirror.example/debian/")
    assert sources.resolve(debian) == Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")


def test_settings_that_reach_the_mirror_are_carried_and_those_that_weaken_it_are_not() -> None:
    dump = """\
Acquire::AllowInsecureRepositories "1";
Acquire::Check-Valid-Until "false";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CAInfo "/etc/ssl/own.pem";
Acquire::http "";
APT::Get::AllowUnauthenticated "1";
Acquire::GzipIndexes "true";
"""
    assert sources.apt_options(Mirror(MAIN, SECURITY), dump) == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::CAInfo "/etc/ssl/own.pem";',
    ]


def test_the_security_archives_components_are_read_without_their_directory() -> None:
    assert sources.components("Components: updates/main updates/non-free-firmware\n") == ("main", "non-free-firmware")


class Archive:
    """A mirror made of texts; what is not in it cannot be fetched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
        def fetch(uri: str, target: Path) -> bytes:
            for name, content in files.items():
                if uri.endswith(name):
                    return content
            raise MirrorError(f"cannot fetch {uri}")

        monkeypatch.setattr(sources, "fetch", fetch)

    def survey(self, scratch: Path) -> Offer:
        return sources.survey(Mirror("http://m/debian", "http://m/debian-security"), "trixie", scratch)


def test_a_mirror_without_firmware_is_used_with_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = {
        "trixie/InRelease": b"Date: Sat, 10 Jan 2026 09:40:31 UTC\nComponents: main\n",
        "trixie-security/InRelease": b"Components: updates/main\n",
    }
    offer = Archive(monkeypatch, release).survey(tmp_path)
    assert offer.firmware == ()
    assert [source.components for source in offer.sources] == [("main",), ("main",)]
    assert len(offer.warnings) == 1
    assert "firmware-bnx2" in offer.warnings[0]


def test_single_missing_firmware_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    release = b"Date: Sat, 10 Jan 2026 09:40:31 UTC\nComponents: main non-free-firmware\n"
    index = lzma.compress(b"Package: firmware-bnx2\nVersion: 1\n\nPackage: firmware-unrelated\n")
    files = {
        "trixie/InRelease": release,
        "trixie-security/InRelease": b"Components: updates/main\n",
        "Packages.xz": index,
    }
    offer = Archive(monkeypatch, files).survey(tmp_path)
    assert offer.firmware == ("firmware-bnx2",)
    assert [source.components for source in offer.sources] == [("main", "non-free-firmware"), ("main",)]
    assert "firmware-qlogic" in offer.warnings[0]
    assert "firmware-bnx2," not in offer.warnings[0]


def test_every_source_is_bound_to_debians_keyring() -> None:
    lines = sources.Source("http://m/debian", ("trixie", "trixie-updates"), ("main",)).one_line()
    assert lines[1] == f"deb [signed-by={sources.KEYRING}] http://m/debian trixie-updates main"
    assert not any("trusted" in line for line in lines)


PAST = Debian(
    mirror="http://mirror.example/debian",
    snapshot="20260102T030405Z",
    snapshot_mirror="https://past.example/archive/debian/",
)


def test_a_snapshot_is_where_packages_come_from_and_not_where_upgrades_do() -> None:
    assert sources.origin(PAST) == Mirror(
        "https://past.example/archive/debian/20260102T030405Z",
        "https://past.example/archive/debian-security/20260102T030405Z",
        past=True,
    )
    assert sources.resolve(PAST) == Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")
    without = PAST.model_copy(update={"snapshot": None})
    assert sources.origin(without) == sources.resolve(without)


def test_an_index_of_the_past_is_not_too_old_and_one_of_today_may_be() -> None:
    assert sources.apt_options(sources.origin(PAST), "") == ['Acquire::Check-Valid-Until "false";']
    assert sources.apt_options(sources.resolve(PAST), "") == []


def test_a_moment_that_the_snapshot_mirror_lacks_is_named_with_the_settings_that_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Archive(monkeypatch, {})
    with pytest.raises(MirrorError, match=r"past\.example/archive/debian/20260102T030405Z/dists/trixie/InRelease") as e:
        sources.survey(sources.origin(PAST), "trixie", tmp_path)
    assert "debian.snapshot" in e.value.hint


def test_suites_and_components_stay_when_the_mirror_is_another_one() -> None:
    found = (
        sources.Source("https://past.example/d/T", ("trixie", "trixie-updates"), ("main", "non-free-firmware")),
        sources.Source("https://past.example/s/T", ("trixie-security",), ("main",)),
        sources.Source("https://vendor.example/debian", ("trixie",), ("main",), signed_by="/etc/apt/keyrings/V.asc"),
    )
    main, security, vendor = sources.moved(found, Mirror("http://m/debian", "http://m/debian-security"))
    assert vendor == found[2]
    assert (main.uri, main.suites, main.components) == ("http://m/debian", found[0].suites, found[0].components)
    assert (security.uri, security.suites) == ("http://m/debian-security", ("trixie-security",))


def test_the_date_of_a_release_is_read_and_a_release_without_one_is_refused() -> None:
    assert sources.release_date("Date: Sat, 21 Nov 2026 09:15:44 UTC\nValid-Until: never\n") == 1795252544
    for text in ("Suite: stable\n", "Date: yesterday\n"):
        with pytest.raises(MirrorError, match="no date"):
            sources.release_date(text)
