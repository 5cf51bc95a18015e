"""What a build leaves behind when it is cut off, and what two builds do to each other."""

from __future__ import annotations

import fcntl
import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from images import build, manifest, namespace
from images.cache import Cache, locked
from images.manifest import Artifact, Manifest
from images.progress import Progress
from images.signing import SigningKey


@pytest.fixture(autouse=True)
def _plain_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a namespace, which needs programs."""
    monkeypatch.setattr(namespace, "remove_tree", lambda path: shutil.rmtree(path, ignore_errors=True))


def made(name: str, content: bytes = b"image") -> Manifest:
    artifact = Artifact(size=len(content), sha256="0" * 64)
    return Manifest(
        suite="trixie",
        key=name,
        config_hash="c",
        root_uuid="u",
        kernel="k",
        warnings=(),
        sources=(),
        artifacts={"xenpair.qcow2": artifact, f"{name}.deb": artifact},
        packages={},
    )


def partial(out: Path, new: Manifest, content: bytes = b"image") -> None:
    (out / ".partial").mkdir(parents=True)
    for name in new.artifacts:
        (out / ".partial" / name).write_bytes(content)


class StubKey(SigningKey):
    """Signs without a program."""

    def sign(self, text: str) -> str:
        return f"signed: {len(text)}\n"


def publish(new: Manifest, out: Path) -> None:
    build._publish(new, out, StubKey(out / "key", "ssh-ed25519 AAAA"), Progress(Console(file=io.StringIO())))


def test_a_scratch_directory_is_gone_after_use(tmp_path: Path) -> None:
    with Cache(tmp_path).scratch() as scratch:
        (scratch / "tree").mkdir()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_scratch_of_a_killed_build_is_swept_and_that_of_a_running_one_is_not(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    with store.scratch() as running:
        dead = tmp_path / "scratch" / "1-dead"
        dead.mkdir()
        dead.with_suffix(".lock").touch()
        assert store.sweep() == 1
        assert not dead.exists()
        assert running.exists()


def test_a_layer_appears_whole(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    with store.scratch() as scratch:
        (scratch / "layer").mkdir()
        assert not store.layer("rootfs", "key").exists()
        store.publish(scratch / "layer", "rootfs", "key")
    assert store.layer("rootfs", "key").is_dir()


def test_who_has_to_wait_for_a_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    calls = []

    def flock(fd: object, operation: int) -> None:
        calls.append(operation)
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "lock", waiting=lambda: told.append("waiting")):
        assert told == ["waiting"]
    assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]


def test_publishing_replaces_the_old_image_and_the_sums_are_right(tmp_path: Path) -> None:
    for name in ("one", "two"):
        partial(tmp_path, made(name))
        publish(made(name), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "image-signers",
        "manifest.json",
        "two.deb",
        "xenpair.qcow2",
    ]
    assert manifest.read(tmp_path) == made("two")
    assert manifest.stands(made("two"), tmp_path)


@pytest.mark.parametrize("survivors", [0, 1])
def test_publishing_that_is_cut_off_leaves_no_manifest_that_vouches_for_a_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    partial(tmp_path, made("one"))
    publish(made("one"), tmp_path)
    partial(tmp_path, made("two", b"other"), b"other")
    moved: list[Path] = []
    rename = Path.rename

    def power_cut(self: Path, target: Path) -> Path:
        if self.parent.name == ".partial" and len(moved) >= survivors:
            raise KeyboardInterrupt
        moved.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", power_cut)
    with pytest.raises(KeyboardInterrupt):
        publish(made("two", b"other"), tmp_path)
    assert manifest.read(tmp_path) is None
    assert all(path.read_bytes() == b"other" for path in tmp_path.glob("*.*") if path.is_file())


def test_a_file_of_another_size_is_not_taken_for_the_image(tmp_path: Path) -> None:
    partial(tmp_path, made("one"))
    publish(made("one"), tmp_path)
    (tmp_path / "xenpair.qcow2").write_bytes(b"half")
    assert not manifest.stands(made("one"), tmp_path)


def test_a_missing_sums_file_makes_the_image_incomplete(tmp_path: Path) -> None:
    partial(tmp_path, made("one"))
    publish(made("one"), tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    assert not manifest.stands(made("one"), tmp_path)
