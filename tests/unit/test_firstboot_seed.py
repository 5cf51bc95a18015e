"""What is taken from a seed medium, and what is not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from config.errors import CopyError, XenpairError
from config.findings import ConfigError
from config.secrets import Secrets
from firstboot.errors import NodeError
from firstboot.places import Places
from firstboot.steps.seed import FILES, SUMS, parse_sums, take
from images import seed as medium_maker

EXAMPLE = Path(__file__).parents[2] / "config" / "cluster.yaml"


def unheard(_: str) -> None:
    """Nobody waits in these tests."""


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
    take(medium, places, unheard)
    assert places.config.read_bytes() == EXAMPLE.read_bytes()
    assert places.seed_keys.exists()
    assert {path.stat().st_mode & 0o777 for path in places.config.parent.iterdir()} == {0o600}


def test_a_better_medium_replaces_what_an_earlier_one_left(medium: Path, places: Places) -> None:
    take(medium, places, unheard)
    changed = EXAMPLE.read_text().replace("deadtime: 20", "deadtime: 25")
    (medium / "cluster.yaml").write_text(changed)
    take(medium, places, unheard)
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
        take(medium, places, unheard)
    assert not places.config.exists()
    assert not places.secrets.exists()


GUEST = "guests: [{name: a, memory: 64M, disk: 64M, home: xen1, install: {tarball: a.tar}, boot: {kernel: k}}]"
CONTENTS = {"a.tar": b"tar" * 1000, "k": b"kernel"}


@pytest.fixture
def full_medium(medium: Path) -> Path:
    (medium / "cluster.yaml").write_text(EXAMPLE.read_text().replace("guests: []", GUEST))
    (medium / FILES).mkdir()
    for name, content in CONTENTS.items():
        (medium / FILES / name).write_bytes(content)
    sums = (f"{hashlib.sha256(content).hexdigest()}  {FILES}/{name}\n" for name, content in CONTENTS.items())
    (medium / SUMS).write_text("".join(sums))
    return medium


def test_both_sides_of_the_medium_mean_the_same_names() -> None:
    assert (medium_maker.FILES, medium_maker.SUMS) == (FILES, SUMS)


def test_what_the_config_names_comes_along_for_root_alone(full_medium: Path, places: Places) -> None:
    (full_medium / FILES / "stray").write_text("nobody named it")
    said: list[str] = []
    take(full_medium, places, said.append)
    assert {path.name: path.read_bytes() for path in places.files.iterdir()} == CONTENTS
    assert {path.stat().st_mode & 0o777 for path in places.files.iterdir()} == {0o600}
    assert said == ["copying a.tar from the seed medium", "copying k from the seed medium"]


def test_files_that_are_there_already_are_not_copied_again(full_medium: Path, places: Places) -> None:
    take(full_medium, places, unheard)
    before = {path.name: path.stat().st_ino for path in places.files.iterdir()}
    take(full_medium, places, unheard)
    assert {path.name: path.stat().st_ino for path in places.files.iterdir()} == before


@pytest.mark.parametrize("lacking", [SUMS, f"{FILES}/k"])
def test_a_medium_that_lacks_a_file_is_refused_before_anything_is_copied(
    full_medium: Path, places: Places, lacking: str
) -> None:
    (full_medium / lacking).unlink()
    with pytest.raises(NodeError, match=lacking):
        take(full_medium, places, unheard)
    assert not places.files.exists()
    assert not places.config.exists()


def test_a_damaged_file_stops_it_and_no_config_is_kept(full_medium: Path, places: Places) -> None:
    (full_medium / FILES / "k").write_bytes(b"kernal")
    with pytest.raises(CopyError, match="k is damaged"):
        take(full_medium, places, unheard)
    assert [path.name for path in places.files.iterdir()] == ["a.tar"]
    assert not places.config.exists()


def test_a_full_disk_is_told_as_such(full_medium: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("firstboot.steps.seed.copy_file", full)
    with pytest.raises(NodeError, match=r"a.tar cannot be copied .*: No space left"):
        take(full_medium, places, unheard)


def test_sums_that_mean_other_places_are_passed_over() -> None:
    total = "0" * 64
    assert parse_sums(f"{total}  {FILES}/a\n{total}  b\n{total}  {FILES}/../c\nx  {FILES}/d\n") == {"a": total}
