"""Where two builds differ, the file within the artifact is named, and how it differs."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from config.loader import Loaded, load
from config.model import Cluster
from images import disk, manifest, namespace, reproduction
from images.difference import first_difference, tree_differences
from images.errors import DifferenceError
from images.jobs import DifferenceJob, Result
from images.manifest import Manifest
from images.progress import Progress


def tree(root: Path) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/shadow").write_text("root:*:20000:\n")
    (root / "etc/mtab").symlink_to("../proc/self/mounts")
    (root / "gone").mkdir()
    for path in (root, *root.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    return root


def test_equal_trees_have_no_difference(tmp_path: Path) -> None:
    assert list(tree_differences(tree(tmp_path / "one"), tree(tmp_path / "two"))) == []


def test_the_time_of_a_symbolic_link_says_only_when_it_was_copied_out(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "etc/mtab", (2, 2), follow_symlinks=False)
    assert list(tree_differences(one, two)) == []


def content(root: Path) -> None:
    (root / "etc/shadow").write_text("root:*:20001:\n")
    os.utime(root / "etc/shadow", (1, 1))


def target(root: Path) -> None:
    (root / "etc/mtab").unlink()
    (root / "etc/mtab").symlink_to("/proc/mounts")
    for name in ("etc/mtab", "etc"):
        os.utime(root / name, (1, 1), follow_symlinks=False)


def missing(root: Path) -> None:
    (root / "gone").rmdir()
    os.utime(root, (1, 1))


@pytest.mark.parametrize(
    ("change", "name", "what"),
    [
        (content, "etc/shadow", "content"),
        (target, "etc/mtab", "content"),
        (missing, "gone", "only in the first"),
        (lambda root: (root / "etc/shadow").chmod(0o600), "etc/shadow", "mode"),
        (lambda root: os.utime(root / "etc", (2, 2)), "etc", "time"),
    ],
)
def test_each_kind_of_difference_is_named(tmp_path: Path, change: Callable[[Path], None], name: str, what: str) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    change(two)
    assert list(tree_differences(one, two)) == [(name, what)]


def test_the_place_of_the_first_difference_is_told_with_its_partition(tmp_path: Path) -> None:
    one, two = tmp_path / "one.raw", tmp_path / "two.raw"
    for path in (one, two):
        with path.open("wb") as f:
            f.truncate(disk.ESP.start + 4096)
    assert first_difference(one, two) == ""
    with two.open("r+b") as f:
        f.seek(disk.ESP.start + 7)
        f.write(b"x")
    assert first_difference(one, two) == f"byte {disk.ESP.start + 7}, in the partition esp"
    with two.open("r+b") as f:
        f.write(b"x")
    assert first_difference(one, two) == "byte 0, in the partition table"


def test_a_file_that_is_longer_differs_where_the_other_one_ends(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"abc")
    two.write_bytes(b"abcd")
    assert first_difference(one, two) == "byte 3"


class Builds:
    """Two builds, each of which leaves what it is told to in its out directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *builds: tuple[bytes, dict[str, str]]) -> None:
        self._builds = list(builds)
        self.caches: list[Path] = []
        self._text = io.StringIO()
        monkeypatch.setattr(reproduction, "build_image", self._build)
        monkeypatch.setattr(reproduction, "run_inside", self._explain)
        monkeypatch.setattr(namespace, "remove_tree", lambda _: None)

    def check(self, cluster: Cluster, directory: Path) -> str:
        """The text that the check shows."""
        source = load(Path(__file__).parents[2] / "config" / "cluster.yaml").source
        progress = Progress(Console(file=self._text, width=200))
        loaded = Loaded(cluster, (), source)
        out, cache = directory / "out", directory / "cache"
        self._build(loaded, out, cache=cache)
        reproduction.check_reproducible(loaded, out, ["qcow2"], cache=cache, progress=progress)
        return self._text.getvalue()

    def _build(self, _: Loaded, out: Path, *__: object, cache: Path, **___: object) -> None:
        self.caches.append(cache)
        content, packages = self._builds.pop(0)
        out.mkdir()
        (out / "xenpair.qcow2").write_bytes(content)
        artifacts = {"xenpair.qcow2": manifest.measure(out / "xenpair.qcow2")}
        facts = {"suite": "trixie", "key": "k", "config_hash": "c", "root_uuid": "u", "kernel": "6"}
        made = Manifest(**facts, warnings=(), sources=(), artifacts=artifacts, packages=packages)
        (out / manifest.NAME).write_text(made.to_json())

    def _explain(self, job: DifferenceJob, **_: object) -> Result:
        Path(job.report).write_text("/etc/shadow: content\n")
        return Result()


def test_builds_that_are_the_same_are_told_with_their_sums(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = Builds(monkeypatch, (b"bits", {}), (b"bits", {}))
    said = builds.check(cluster, tmp_path)
    assert f"{manifest.measure(tmp_path / 'out/xenpair.qcow2').sha256}  xenpair.qcow2" in said
    assert builds.caches[0] == tmp_path / "cache"
    assert not (builds.caches[1] / "rootfs").exists()


def test_builds_that_differ_fail_with_the_file_in_the_artifact(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = Builds(monkeypatch, (b"bits", {}), (b"other", {}))
    with pytest.raises(DifferenceError, match=r"xenpair\.qcow2: /etc/shadow: content"):
        builds.check(cluster, tmp_path)


def test_a_mirror_that_moved_on_between_the_builds_is_named_as_the_cause(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = Builds(monkeypatch, (b"bits", {"less": "668-1"}), (b"other", {"less": "669-1"}))
    with pytest.raises(DifferenceError, match="mirror has moved on, see `invoke lock`: less 668-1, then 669-1"):
        builds.check(cluster, tmp_path)
