"""The same inputs give the same bits, and where they do not, the file is named; a lock holds, or says what is gone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.door import run
from config.loader import Loaded
from images import disk, lock
from images.build import Artifacts, build_image
from images.cache import Cache
from images.errors import DifferenceError, LockError
from images.jobs import DifferenceJob, run_inside
from images.locking import write_lock
from images.manifest import Manifest
from images.namespace import remove_tree
from images.reproduction import check_reproducible
from tests.image.conftest import CACHE, OUT, Image, Said


@pytest.fixture
def room(artifacts: Artifacts) -> Iterator[Path]:
    """A directory on the disk that the cache is on."""
    with Cache(CACHE).scratch() as scratch:
        yield scratch


def test_a_build_from_nothing_gives_the_files_that_stand(
    loaded: Loaded, artifacts: Artifacts, described: Manifest
) -> None:
    said = Said()
    umask = os.umask(0o027)
    try:
        check_reproducible(loaded, OUT, ["qcow2", "iso", "netboot"], cache=CACHE, progress=said.progress)
    except DifferenceError as e:
        if "the mirror has moved on" in e.message:
            pytest.skip("what stands is of older packages than the mirror has now: `make clean`")
        raise
    finally:
        os.umask(umask)
    assert all(f"{artifact.sha256}  {name}" in said for name, artifact in described.artifacts.items())


def test_a_file_that_differs_within_a_disk_is_named(image: Image, room: Path) -> None:
    other = room / "other.raw"
    run(["cp", "--sparse=always", image.raw, other], timeout=600)
    (room / "hostname").write_text("build-host\n")
    place = f"{other}?offset={disk.ROOT.start}"
    for request in ("rm /etc/hostname", f"write {room / 'hostname'} /etc/hostname"):
        run(["debugfs", "-w", "-R", request, place])
    told = difference(image.raw, other, room)
    assert "in the partition root" in told[0]
    assert any(line.startswith("/root/etc/hostname: ") and "content" in line for line in told)
    assert not any(line.startswith("/root/etc/shadow") for line in told)


def test_a_file_that_differs_within_a_package_is_named(artifacts: Artifacts, room: Path) -> None:
    run(["dpkg-deb", "--raw-extract", artifacts.deb, room / "tree"])
    (room / "tree/usr/bin/xenpair").write_text("#!/bin/sh\n")
    run(["dpkg-deb", "--build", room / "tree", room / "other.deb"])
    told = difference(artifacts.deb, room / "other.deb", room)
    assert [line.partition(":")[0] for line in told if "content" in line] == ["/usr/bin/xenpair"]


def difference(one: Path, other: Path, room: Path) -> list[str]:
    """The lines of a report."""
    report, trees = room / "report", room / "trees"
    try:
        run_inside(DifferenceJob(str(one.absolute()), str(other), str(trees), str(report)), timeout=600)
    finally:
        remove_tree(trees)
    return report.read_text().splitlines()


def test_a_lock_is_of_the_image_that_it_would_give_and_a_package_that_is_gone_is_named(
    loaded: Loaded, described: Manifest, room: Path
) -> None:
    config = room / "cluster.yaml"
    shutil.copy(loaded.source, config)
    own, said = replace(loaded, source=config), Said()
    write_lock(own, cache=Cache(room / "cache"), update=False, progress=said.progress)
    found = lock.read(lock.path_of(config))
    assert found is not None
    assert {*found.packages, "xenpair-firstboot"} == described.packages.keys()

    gone = {
        name: entry.model_copy(update={"version": "0.1"})
        for name, entry in found.packages.items()
        if name in ("less", "zstd")
    }
    broken = found.model_copy(update={"packages": {**found.packages, **gone}})
    lock.path_of(config).write_text(broken.to_text())
    with pytest.raises(LockError, match=r"no longer has 2 of the locked packages: less 0\.1, zstd 0\.1"):
        build_image(own, room / "out", ["qcow2"], cache=room / "cache", progress=said.progress)
    assert not list((room / "out").glob("xenpair.*"))
    with pytest.raises(LockError, match=r"less 0\.1"):
        write_lock(own, cache=Cache(room / "cache"), update=False, progress=said.progress)
    assert lock.read(lock.path_of(config)) == broken
    write_lock(own, cache=Cache(room / "cache"), update=True, progress=said.progress)
    assert lock.read(lock.path_of(config)) == found
    assert f"less: 0.1 -> {found.packages['less'].version}" in said
