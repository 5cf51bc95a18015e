"""A build in a container of a real Docker engine, which these tests start for themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.door import run
from config.loader import Loaded
from images import manifest
from images.build import Artifacts
from images.cache import Cache
from images.manifest import Manifest
from images.rootfs import Request
from tests.image.conftest import CACHE, PROJECT
from tests.image.test_building import NOBODY, as_nobody

CHILD = Path(__file__).with_name("container_child.py")
DEADLINE = 60.0


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The address of a Docker engine that anybody may use, without a network of its own."""
    if os.geteuid() != 0:
        pytest.skip("a Docker engine of our own needs root")
    if shutil.which("dockerd") is None:
        pytest.skip("needs dockerd (docker.io)")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xenpair-docker-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        argv = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "unshare",
            "--mount",
            "dockerd",
            "--iptables=false",
            "--bridge=none",
            f"--data-root={name}/root",
            f"--exec-root={name}/run",
        ]
        argv += [f"--pidfile={name}/pid", f"--host=unix://{name}/sock"]
        with (directory / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
            try:
                wait_for(directory / "sock", daemon)
                (directory / "sock").chmod(0o666)
                yield f"unix://{name}/sock"
            finally:
                daemon.terminate()
                daemon.wait(timeout=DEADLINE)


def wait_for(sock: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Until the engine listens; skips where it does not."""
    end = time.monotonic() + DEADLINE
    while not sock.exists():
        if daemon.poll() is not None or time.monotonic() > end:
            last = (sock.with_name("log")).read_text(errors="replace").splitlines()[-1:]
            pytest.skip(f"dockerd does not start here: {''.join(last)}")
        time.sleep(0.1)


@pytest.fixture
def own(loaded: Loaded, artifacts: Artifacts) -> Iterator[Path]:
    """A directory with the example config, and a cache that has the first layer of its image already."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="xenpair-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copy(loaded.source, directory / "cluster.yaml")
        key = Request.of(loaded.cluster.debian).key
        shutil.copytree(Cache(CACHE).layer("rootfs", key), Cache(directory / "cache").layer("rootfs", key))
        yield directory


def test_it_gives_the_bits_of_a_build_without_one_and_its_files_to_whoever_asked_for_them(
    own: Path, engine: str, described: Manifest
) -> None:
    prefix, interpreter = as_nobody(own)
    modules = os.pathsep.join([str(PROJECT), sysconfig.get_path("purelib")])
    environment = {"PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1", "DOCKER_HOST": engine, "HOME": str(own)}
    argv = [interpreter, str(CHILD), *(str(own / name) for name in ("cluster.yaml", "out", "cache"))]
    run([*prefix, *argv], env=environment, timeout=1800)

    made = manifest.read(own / "out")
    assert made is not None
    assert made.artifacts == {name: described.artifacts[name] for name in made.artifacts}
    assert "xenpair.qcow2" in made.artifacts
    assert {path.lstat().st_uid for path in own.rglob("*") if path.name != "subid"} == {NOBODY}
    assert list((own / "cache" / "scratch").iterdir()) == []
    assert docker.APIClient(engine).containers(all=True) == []
