"""What changed in a tree reaches the file system that was made of it: by the real debugfs, without root."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.door import run
from images import delta
from images.errors import BuildError
from images.ext4 import FileSystem

DATE = 1_700_000_000
LATER = DATE + 86400
NAMES = st.sampled_from(["a", "b c", "d"])
TREES = st.recursive(
    st.one_of(st.binary(max_size=9), st.text("xyz/ ", min_size=1, max_size=70)),
    lambda below: st.dictionaries(NAMES, below, max_size=3),
    max_leaves=8,
)
"""A file (bytes), a symbolic link (text) or a directory (dict)."""
Content = bytes | str | dict[str, "Content"]

pytestmark = pytest.mark.usefixtures("real_programs")


def write(content: Content, path: Path) -> None:
    match content:
        case bytes():
            path.write_bytes(content)
        case str():
            path.symlink_to(content)
        case dict():
            path.mkdir(exist_ok=True)
            for name, below in content.items():
                write(below, path / name)


def clear(tree: Path) -> None:
    for path in tree.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def filled(tree: Path, raw: Path) -> Path:
    raw.unlink(missing_ok=True)
    run(["mkfs.ext4", "-q", "-F", "-d", tree, raw, "4M"], env={"SOURCE_DATE_EPOCH": str(DATE)})
    return raw


def brought(before: dict[str, delta.Node], tree: Path, raw: Path) -> None:
    carried_out(delta.requests(before, delta.snapshot(tree), tree, tree.name, DATE), tree.parent, raw)


def carried_out(said: list[str], directory: Path, raw: Path) -> None:
    script = raw.with_suffix(".script")
    script.write_text("\n".join([*said, ""]))
    delta.apply(["debugfs", "-w", "-f", str(script), str(raw)], directory, {"SOURCE_DATE_EPOCH": str(DATE)})


def held(raw: Path) -> dict[str, tuple[object, ...]]:
    """Path -> mode, owner, group, and sum of the content or target; and the file system is sound."""
    run(["e2fsck", "-fn", raw])
    system = FileSystem(raw, 0)
    entries = {path: entry for path, entry in system.walk().items() if path != "/lost+found"}
    sums = system.digests(entries)
    return {path: (entry.mode, entry.owner, entry.group, sums.get(path)) for path, entry in entries.items()}


@pytest.mark.exhaustive
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(old=st.dictionaries(NAMES, TREES, max_size=3), new=st.dictionaries(NAMES, TREES, max_size=3))
def test_whatever_a_tree_becomes_its_file_system_becomes_too(
    tmp_path: Path, old: dict[str, Content], new: dict[str, Content]
) -> None:
    tree, changed, anew = tmp_path / "tree", tmp_path / "changed", tmp_path / "anew"
    shutil.rmtree(tree, ignore_errors=True)
    write(old, tree)
    before = delta.snapshot(tree)
    filled(tree, changed)
    clear(tree)
    write(new, tree)

    brought(before, tree, changed)

    assert held(changed) == held(filled(tree, anew))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    write({"etc": {"kept": b"kept", "changed": b"old", "gone": {"below": b"x"}}}, tree)
    return tree


def test_what_did_not_change_is_not_spoken_of(tree: Path) -> None:
    before = delta.snapshot(tree)
    assert delta.requests(before, delta.snapshot(tree), tree, "tree", DATE) == []
    (tree / "etc/changed").write_text("new")
    said = delta.requests(before, delta.snapshot(tree), tree, "tree", DATE)
    assert said
    assert all("/etc/changed" in request or request == 'cd "/etc"' for request in said)


def test_mode_owner_and_times_come_along_and_no_time_is_later_than_the_date(tree: Path, tmp_path: Path) -> None:
    before, raw = delta.snapshot(tree), filled(tree, tmp_path / "raw")
    for name, time in (("changed", DATE - 5), ("new", LATER)):
        (tree / "etc" / name).write_text("new")
        os.utime(tree / "etc" / name, (time, time))
    (tree / "etc/changed").chmod(0o4711)
    (tree / "etc").chmod(0o700)

    brought(before, tree, raw)

    modes = {path: stat.S_IMODE(entry.mode) for path, entry in FileSystem(raw, 0).walk().items()}
    assert (modes["/etc/changed"], modes["/etc/new"], modes["/etc"]) == (0o4711, 0o644, 0o700)
    times = {name: run(["debugfs", "-R", f"stat /etc/{name}", raw]).stdout for name in ("changed", "new")}
    assert f"mtime: {DATE - 5:#010x}:" in times["changed"]
    assert f"mtime: {DATE:#010x}:" in times["new"]


def test_a_hard_link_is_refused_with_its_name(tree: Path) -> None:
    before = delta.snapshot(tree)
    (tree / "twice").hardlink_to(tree / "etc/kept")
    with pytest.raises(BuildError, match=r"(twice|etc/kept): only plain files"):
        delta.requests(before, delta.snapshot(tree), tree, "tree", DATE)


@pytest.mark.parametrize("name", ['quo"te', "two\nlines"])
def test_a_name_that_debugfs_would_misread_is_refused(tree: Path, name: str) -> None:
    before = delta.snapshot(tree)
    (tree / name).write_text("x")
    with pytest.raises(BuildError, match="cannot be put upon"):
        delta.requests(before, delta.snapshot(tree), tree, "tree", DATE)


def test_a_file_is_put_in_the_place_of_one_that_is_there(tree: Path, tmp_path: Path) -> None:
    raw, source = filled(tree, tmp_path / "raw"), tmp_path / "source"
    source.write_text("later")
    carried_out(delta.replacement("etc/kept", source, 0o755, DATE), tmp_path, raw)
    assert FileSystem(raw, 0).text("/etc/kept") == "later"
    assert FileSystem(raw, 0).walk()["/etc/kept"].mode == stat.S_IFREG | 0o755


def test_what_debugfs_cannot_do_is_an_error_in_its_words(tree: Path, tmp_path: Path) -> None:
    raw = filled(tree, tmp_path / "raw")
    with pytest.raises(BuildError, match="File not found"):
        carried_out(['rm "/etc/nothing"'], tmp_path, raw)
