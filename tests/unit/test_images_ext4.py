"""An ext4 file system in the midst of an image is read by the real debugfs, without root."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from config.door import run
from images.errors import InspectError
from images.ext4 import FileSystem

START = 1 << 20
LONG = "x" * 200
"""A symbolic link's target that does not fit into its inode."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "a dir/below").mkdir(parents=True)
    (tree / "a dir/no line end").write_bytes(b"debugfs: cat <12>")
    (tree / "a dir/below/empty").touch()
    (tree / "binary").write_bytes(os.urandom(3 << 20))
    (tree / "program").write_text("#!/bin/sh\n")
    (tree / "program").chmod(0o4755)
    (tree / "short").symlink_to("a dir")
    (tree / "long").symlink_to(LONG)
    with (tree / "sparse").open("wb") as f:
        f.truncate(1 << 20)
        f.seek(300_000)
        f.write(b"here")
    return tree


@pytest.fixture
def system(real_programs: None, tree: Path, tmp_path: Path) -> FileSystem:
    raw = tmp_path / "disk.raw"
    run(["mkfs.ext4", "-q", "-F", "-E", f"offset={START}", "-d", tree, raw, "16M"])
    return FileSystem(raw, START)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_path_is_found_with_mode_owner_and_size(system: FileSystem, tree: Path) -> None:
    found = system.walk()
    below = {f"/{path.relative_to(tree)}" for path in tree.rglob("*")}
    assert found.keys() - below == {"/lost+found"}
    assert below <= found.keys()
    assert found["/program"].mode == 0o104755
    assert (found["/program"].owner, found["/program"].group) == (os.getuid(), os.getgid())
    assert found["/sparse"].size == 1 << 20
    assert system.walk("/a dir").keys() == {"/a dir/no line end", "/a dir/below", "/a dir/below/empty"}
    assert not system.walk("/nowhere")


def test_the_sums_are_those_of_the_contents(system: FileSystem, tree: Path) -> None:
    found = system.digests(system.walk())
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    assert {f"/{path.relative_to(tree)}": sha256(path.read_bytes()) for path in files}.items() <= found.items()
    assert found["/short"] == sha256(b"a dir")
    assert found["/long"] == sha256(LONG.encode())
    assert len(found) == len(files) + 2


def test_a_file_is_read_by_its_path(system: FileSystem) -> None:
    assert system.text("/program") == "#!/bin/sh\n"
    assert system.text("/a dir/below/empty") == ""
    assert system.text("/a dir/nothing") is None


def test_a_damaged_file_system_is_named(system: FileSystem, tmp_path: Path) -> None:
    with (tmp_path / "disk.raw").open("r+b") as f:
        f.seek(START + 8192)
        f.write(bytes(1 << 20))
    with pytest.raises(InspectError, match="cannot read the file system"):
        system.text("/program")
