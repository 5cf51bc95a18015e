"""The image tier: one image, built into the project's own out directory, so that the lab tier boots the same one."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from config.door import run
from config.loader import Loaded, load
from images.build import Artifacts, build_image
from images.disk import ROOT
from images.manifest import Manifest, read
from images.progress import Progress

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache"
OUT = PROJECT / "out"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.image)


class Said:
    """A progress display whose lines can be read afterwards."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self.progress = Progress(Console(file=self._text, width=200))

    def __contains__(self, text: str) -> bool:
        return text in self._text.getvalue()


class Image:
    """A raw disk image, read without mounting it."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw

    def debugfs(self, command: str) -> str:
        """Output of one debugfs(8) request to the root file system."""
        return run(["debugfs", "-R", command, f"{self.raw}?offset={ROOT.start}"]).stdout

    def exists(self, path: str) -> bool:
        """Whether the path is there, symbolic links not followed."""
        return bool(self.debugfs(f"stat {path}").strip())

    def read(self, path: str) -> bytes:
        """Content of a file. Raises FileNotFoundError."""
        argv = ["debugfs", "-R", f"cat {path}", f"{self.raw}?offset={ROOT.start}"]
        done = subprocess.run(argv, capture_output=True, check=True)
        if b"File not found" in done.stderr:
            raise FileNotFoundError(path)
        return done.stdout

    def text(self, path: str) -> str:
        """The same, decoded."""
        return self.read(path).decode()

    def names(self, directory: str) -> set[str]:
        """What a directory holds; rows of `ls -p` are /inode/mode/uid/gid/name/size/."""
        rows = self.debugfs(f"ls -p {directory}").splitlines()
        return {row.split("/")[5] for row in rows if row.count("/") >= 6} - {".", ".."}

    def link(self, path: str) -> str:
        """Target of a (fast) symbolic link; empty where there is none."""
        _, _, target = self.debugfs(f"stat {path}").partition('Fast link dest: "')
        return target.partition('"')[0]

    def dump(self, directory: str, target: Path) -> Path:
        """Copy a directory out, times included."""
        self.debugfs(f"rdump {directory} {target}")
        return target / Path(directory).name


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    """The example pair."""
    return load(PROJECT / "config" / "cluster.yaml")


@pytest.fixture(scope="session")
def artifacts(loaded: Loaded) -> Artifacts:
    """The image and what installs it, built unless it stands there already."""
    return build_image(loaded, OUT, ["qcow2", "iso", "netboot"], cache=CACHE, progress=Progress())


@pytest.fixture(scope="session")
def described(artifacts: Artifacts) -> Manifest:
    """Its manifest."""
    found = read(artifacts.manifest.parent)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def image(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The disk as raw."""
    raw = tmp_path_factory.mktemp("image") / "disk.raw"
    run(["qemu-img", "convert", "-O", "raw", str(artifacts.qcow2), raw], timeout=600)
    return Image(raw)
