"""The contest between builders: the mirror that all of them have, and what their runs come to."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bench import mirror, standings
from bench.load import Run, measured
from bench.mirror import mirror_of
from bench.peers import DEBIAN_PACKAGES, PEERS, Peer, Site
from config.errors import CommandError
from images.errors import MirrorError
from images.sources import Mirror

SITE = Site(
    "trixie", "http://127.0.0.1:9/debian", ("main",), ("lvm2", "heartbeat"), ("deb a trixie main", "deb b x main")
)
RUNS = [
    Run("xenpair", "cold", 20, 30, 1 << 30, 1 << 20),
    Run("xenpair", "cold", 60, 90, 1 << 30, 1 << 20),
    Run("xenpair", "cold", 30, 40, 1 << 30, 1 << 20),
    Run("mkosi", "cold", failure="no namespaces"),
    Run("vmdb2", "cold", 60, 50, 1 << 20, 1 << 20),
]


def test_the_mirror_asks_its_own_one_once_and_hands_out_what_that_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(uri: str, target: Path) -> bytes:
        asked.append(uri)
        if "absent" in uri:
            raise MirrorError("not found")
        target.write_text(uri)
        return b""

    monkeypatch.setattr(mirror, "fetch", fetch)
    with mirror_of(Mirror("http://up/debian", "http://up/security"), tmp_path) as served:
        for _ in range(2):
            with urllib.request.urlopen(f"{served.main}/pool/a%2b1.deb") as answer:  # noqa: S310
                assert answer.read() == b"http://up/debian/pool/a%2b1.deb"
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{served.security}/absent")  # noqa: S310
        assert served.fetched() == 1
    assert asked == ["http://up/debian/pool/a%2b1.deb", "http://up/security/absent"]


def test_the_mirrors_indexes_do_not_outlive_it_and_packages_do(tmp_path: Path) -> None:
    for name in ("debian/dists/trixie/InRelease", "debian/pool/a.deb"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with mirror_of(Mirror("http://up/debian", "http://up/security"), tmp_path):
        assert not (tmp_path / "debian/dists").exists()
        assert (tmp_path / "debian/pool/a.deb").exists()


@pytest.mark.parametrize("name", DEBIAN_PACKAGES)
def test_every_peer_has_a_recipe_that_names_the_packages_and_the_mirror(name: str, tmp_path: Path) -> None:
    Peer(name, SITE, tmp_path / name)
    files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
    text = "".join(path.read_text() for path in files)
    assert (tmp_path / name / "cold").is_file()
    assert not [path for path in files if path.suffix == ".j2"]
    assert "heartbeat" in text
    assert "deb b x main" in text or SITE.main in text
    assert "{%" not in text


def test_there_is_no_recipe_of_an_unknown_peer() -> None:
    assert {path.name for path in PEERS.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(
        DEBIAN_PACKAGES
    )


def test_a_run_that_fails_is_a_result_with_its_last_words() -> None:
    def fail() -> None:
        raise CommandError(["mkosi"], 1, "first\nno namespaces\n\n")

    assert measured("mkosi", "cold", fail, Path) == Run("mkosi", "cold", failure="no namespaces")


def test_standings_are_medians_and_the_failed_come_last() -> None:
    found = standings.standings(RUNS)
    assert [(standing.who, standing.wall) for standing in found] == [("xenpair", 30), ("vmdb2", 60), ("mkosi", 0)]
    cells = standings.rows(found)
    assert cells[0][2:6] == ("3", "30.0", "40.0", "1.00")
    assert cells[1][5] == "2.00"
    assert cells[2][-1] == "no namespaces"


def test_a_page_gets_the_table_between_its_marks_and_keeps_the_rest(real_programs: None, tmp_path: Path) -> None:
    page, picture = tmp_path / "benchmark.md", tmp_path / "benchmark.png"
    page.write_text("before\n<!-- measured -->\nwas here\n<!-- /measured -->\nafter\n")
    standings.publish(standings.standings(RUNS), page, picture)
    text = page.read_text()
    assert text.startswith("before\n<!-- measured -->\n| builder ")
    assert text.endswith("<!-- /measured -->\nafter\n")
    assert "was here" not in text
    assert "    vmdb2       cold                         " + "#" * 50 + " 60.0 s" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
