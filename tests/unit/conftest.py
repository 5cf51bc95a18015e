"""Unit tests start no program that they do not name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from config.loader import load
from config.model import Cluster
from tests.unit import fencing_rig
from tests.unit.bmc_rig import Rig, down_lab, running

CAPTURED = Path(__file__).parent / "captured"
EXAMPLE = Path(__file__).parents[2] / "config" / "cluster.yaml"

# What an example takes says how busy the host is, and nothing about the code.
settings.register_profile("xenpair", deadline=None)
settings.load_profile("xenpair")


@pytest.fixture(autouse=True)
def _no_unexpected_program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that runs programs through the door says so with the fixture real_programs."""
    if "real_programs" in request.fixturenames:
        return

    def refuse(argv: object, **_: object) -> None:
        raise AssertionError(f"this unit test started a program: {argv}")

    monkeypatch.setattr("config.door.subprocess.Popen", refuse)


@pytest.fixture
def real_programs() -> None:
    """Allow the test to start programs."""


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The example pair."""
    return load(EXAMPLE).cluster


@pytest.fixture
def captured() -> Path:
    """Directory of output captured from the real tools."""
    return CAPTURED


@pytest.fixture
def off(real_programs: None, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A lab with BMCs that is down."""
    yield from down_lab(tmp_path, cluster, monkeypatch)


@pytest.fixture
def rig(off: Rig) -> Rig:
    """The same, with nodes and BMCs that run."""
    return running(off)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fencing_rig.Stage:
    """A flight of fencing."""
    return fencing_rig.on_stage(tmp_path, monkeypatch)
