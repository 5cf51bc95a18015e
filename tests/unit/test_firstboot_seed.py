"""What is taken from a seed medium, and what is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from config.errors import XenpairError
from config.findings import ConfigError
from config.secrets import Secrets
from firstboot.errors import NodeError
from firstboot.places import Places
from firstboot.steps.seed import take

EXAMPLE = Path(__file__).parents[2] / "config" / "cluster.yaml"


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    directory = tmp_path / "medium"
    directory.mkdir()
    shutil.copy(EXAMPLE, directory / "cluster.yaml")
    secrets = Secrets(authkeys="ab" * 32, drbd="cd" * 24, join="ef" * 32)
    (directory / "secrets.yaml").write_text(secrets.to_yaml())
    return directory


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "root")


def test_config_and_secrets_are_kept_for_root_alone(medium: Path, places: Places) -> None:
    (medium / "authorized_keys").write_text("ssh-ed25519 AAAA lab\n")
    take(medium, places)
    assert places.config.read_bytes() == EXAMPLE.read_bytes()
    assert places.seed_keys.exists()
    assert {path.stat().st_mode & 0o777 for path in places.config.parent.iterdir()} == {0o600}


def test_a_better_medium_replaces_what_an_earlier_one_left(medium: Path, places: Places) -> None:
    take(medium, places)
    changed = EXAMPLE.read_text().replace("deadtime: 20", "deadtime: 25")
    (medium / "cluster.yaml").write_text(changed)
    take(medium, places)
    assert places.config.read_text() == changed


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("cluster.yaml", "cluster: {", ConfigError),
        ("cluster.yaml", None, ConfigError),
        ("secrets.yaml", "join: short", ConfigError),
        ("secrets.yaml", None, NodeError),
    ],
)
def test_a_medium_that_makes_no_sense_leaves_nothing_behind(
    medium: Path, places: Places, file: str, content: str | None, error: type[XenpairError]
) -> None:
    if content is None:
        (medium / file).unlink()
    else:
        (medium / file).write_text(content)
    with pytest.raises(error, match=file):
        take(medium, places)
    assert not places.config.exists()
    assert not places.secrets.exists()
