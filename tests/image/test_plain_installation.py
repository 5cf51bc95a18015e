"""The image's dpkg knows what a plain installation of the same packages knows, one by mmdebstrap of the same files."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.floor import mmdebstrap_argv
from config.door import run
from config.loader import Loaded
from images.build import Artifacts
from images.cache import Cache
from images.namespace import isolated, remove_tree
from images.pool import release_file
from images.progress import Progress
from images.rootfs import Request, carried_by_initramfs, question, rootfs_layer
from images.selection import select
from images.supply import Supply
from tests.image.conftest import CACHE

DATABASE = "./var/lib/dpkg/"
OURS = {f"/{name}" for name in carried_by_initramfs()}
"""Files of packages that are meant to be ours."""


@dataclass(frozen=True)
class System:
    """One root file system: dpkg's data base, by name; and what it says of the files."""

    database: dict[str, bytes]
    installed: str
    audit: str
    faults: set[str]


def asked(loaded: Loaded) -> Request:
    """For the layer that every image has; what a config adds is installed upon it."""
    return Request.of(loaded.cluster.debian.model_copy(update={"packages": ()}))


@pytest.fixture(scope="module")
def ours(loaded: Loaded, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """What images are made of, before anything of ours is in it but what the initramfs carries."""
    layer = rootfs_layer(asked(loaded), Cache(CACHE), Progress())
    yield from described(layer.tar, tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def plain(loaded: Loaded, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The same packages by mmdebstrap, one by one."""
    room, cache = tmp_path_factory.mktemp("plain"), Cache(CACHE)
    request = asked(loaded)
    chosen = select(question(request, None, cache, Progress()), cache, Progress())
    pool = room / "pool"
    pool.mkdir(mode=0o755)
    for path in chosen.paths(cache):
        (pool / f"{path.name}.deb").symlink_to(path)
    index = run(["dpkg-scanpackages", "--multiversion", "."], cwd=pool, timeout=600).stdout
    (pool / "Packages").write_text(index)
    # mmdebstrap takes essential packages of the suite only.
    (pool / "Release").write_text(f"Codename: {request.debian.suite}\n{release_file(index)}")
    alone = Supply(lines=(f"deb [trusted=yes] copy:{pool} ./",))
    argv = mmdebstrap_argv(request, replace(chosen.offer, sources=()), alone, room, room / "plain.tar")
    run(isolated(argv), timeout=1800, env={"TMPDIR": str(room)})
    yield from described(room / "plain.tar", room)


def described(tar: Path, room: Path) -> Iterator[System]:
    tree = room / "tree"
    tree.mkdir()
    script = f"tar -x --numeric-owner --exclude=./dev/* -C {tree} -f {tar}"
    asking = (f"dpkg --root={tree} {words}" for words in ("--list", "--audit", "--verify"))
    answers = [
        run(isolated(["sh", "-c", f"[ -e {tree}/usr ] || {script}; {ask} || true"]), timeout=600) for ask in asking
    ]
    installed, audit, verified = (answer.stdout for answer in answers)
    with tarfile.open(tar) as opened:
        members = [member for member in opened if member.isfile() and member.name.startswith(DATABASE)]
        files = {member.name.removeprefix(DATABASE): opened.extractfile(member) for member in members}
        database = {name: file.read() for name, file in files.items() if file is not None}
    yield System(database, installed, audit, set(verified.splitlines()))
    remove_tree(tree)


def test_the_same_packages_are_installed_in_the_same_versions(ours: System, plain: System) -> None:
    assert ours.installed == plain.installed
    assert len(re.findall(r"^ii ", ours.installed, re.MULTILINE)) > 200


def test_nothing_is_left_half_done(ours: System, plain: System) -> None:
    assert ours.audit == plain.audit == ""


def test_the_status_is_the_same_to_the_byte(ours: System, plain: System) -> None:
    assert ours.database["status"] == plain.database["status"]


@pytest.mark.parametrize("kind", ["list", "md5sums", "conffiles", "triggers", "shlibs", "postinst", "preinst", "prerm"])
def test_what_dpkg_keeps_of_each_package_is_the_same(ours: System, plain: System, kind: str) -> None:
    def kept(system: System) -> dict[str, bytes]:
        return {name: data for name, data in system.database.items() if name.endswith(f".{kind}")}

    assert kept(ours) == kept(plain)
    assert kept(ours)


@pytest.mark.parametrize("name", ["diversions", "statoverride"])
def test_diversions_and_overrides_are_the_same(ours: System, plain: System, name: str) -> None:
    def lines(system: System) -> list[bytes]:
        data = system.database.get(name, b"").splitlines()
        # A diversion is three lines: from, to, by.
        return sorted(b"\n".join(data[at : at + 3]) for at in range(0, len(data), 3)) if name == "diversions" else data

    assert lines(ours) == lines(plain)


def test_alternatives_are_the_same(ours: System, plain: System) -> None:
    def alternatives(system: System) -> dict[str, bytes]:
        return {name: data for name, data in system.database.items() if name.startswith("alternatives/")}

    assert alternatives(ours) == alternatives(plain)
    assert "alternatives/awk" in alternatives(ours)


def test_the_same_triggers_are_waited_for(ours: System, plain: System) -> None:
    assert sorted(ours.database["triggers/File"].splitlines()) == sorted(plain.database["triggers/File"].splitlines())


def test_no_file_differs_from_its_package_but_those_that_are_ours(ours: System, plain: System) -> None:
    faults = ours.faults ^ plain.faults
    assert {line.split()[-1] for line in faults} <= OURS
