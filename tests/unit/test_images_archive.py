"""What a system would get of an archive is apt's to say, in a room of its own; and each package is fetched once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from config.door import run
from images import archive, pruning
from images.archive import Archive
from images.cache import Cache
from images.errors import BuildError
from images.lock import parse_uris
from images.sources import Mirror

STATUS = "Package: there\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"
"""dpkg's record of a system that has one package, and wants no essential ones."""

pytestmark = pytest.mark.usefixtures("real_programs")


@pytest.fixture
def where(tmp_path: Path) -> Archive:
    """An archive: `needs` depends on `needed`; `other` on nothing."""
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, fields in {"needs": "Depends: needed\n", "needed": "", "other": ""}.items():
        control = tmp_path / name / "DEBIAN/control"
        control.parent.mkdir(parents=True)
        text = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: d\n"
        control.write_text(text + fields)
        run(["dpkg-deb", "--root-owner-group", "--build", tmp_path / name, pool])
    (pool / "Packages").write_text(run(["dpkg-scanpackages", "--multiversion", "."], cwd=pool).stdout)
    mirror = Mirror("http://127.0.0.1:9/debian", "http://127.0.0.1:9/security")
    return Archive(mirror, [f"deb [trusted=yes] copy:{pool} ./"], tmp_path)


def names(printed: str) -> list[str]:
    return sorted(parse_uris(printed))


def chosen(where: Archive, *packages: str, status: str = STATUS) -> str:
    return where.to_install(packages, "", status)


def test_a_package_brings_what_it_depends_on(where: Archive) -> None:
    assert names(chosen(where, "needs")) == ["needed", "needs"]


def test_what_a_system_has_is_not_chosen_again(where: Archive) -> None:
    status = "Package: needed\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n"
    assert names(chosen(where, "needs", status=status)) == ["needs"]


def test_preferences_choose_the_version(where: Archive) -> None:
    with pytest.raises(BuildError, match="needs"):
        where.to_install(["needs"], "Package: needs\nPin: version 1\nPin-Priority: -1\n", STATUS)


def test_an_unknown_package_is_one_clear_error(where: Archive) -> None:
    with pytest.raises(BuildError, match="Unable to locate package nothing-of-the-kind"):
        chosen(where, "nothing-of-the-kind")


def test_apt_tells_where_a_package_is_from(where: Archive) -> None:
    chosen(where, "needs")
    assert re.search(r"^needed:\n.*\n.*\n.*\n +1 500\n +500 copy:\S+/pool", where.policy(["needed"]))


def test_packages_are_kept_under_their_sums_and_fetched_once(where: Archive, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    kept = [archive.place(sha256, cache) for sha256 in where.fetch(chosen(where, "needs"), cache).values()]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept] == [path.name for path in kept]

    times = [path.stat().st_mtime_ns for path in kept]
    assert len(where.fetch(chosen(where, "needs", "other"), cache)) == 3
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_packages_are_layers_that_the_cache_knows_the_use_of(where: Archive, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    found = where.fetch(chosen(where, "needs"), cache)
    assert {("archive", sha256) for sha256 in found.values()} <= cache.used
    assert {layer.key for layer in pruning.layers(cache)} == set(found.values())


def test_a_package_that_is_not_what_the_index_says_is_refused(where: Archive, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    printed = chosen(where, "other")
    (deb,) = (tmp_path / "pool").glob("other_*")
    deb.write_bytes(deb.read_bytes()[:-1] + b"x")
    with pytest.raises(BuildError):
        where.fetch(printed, cache)
    assert not (tmp_path / "cache/archive").exists()
