"""The builder's image: what it is made of, and from where."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from images import preflight
from images.builders import image
from images.builders.engine import Engine
from images.builders.host import Apt
from images.builders.image import Recipe, bootstrap_argv, builder_image
from images.builders.lockfile import needed
from images.cache import Cache
from images.errors import BuildError, PreflightError
from images.jobs import REPOSITORY
from images.progress import Progress
from images.sources import Mirror
from tests.unit.builders_rig import FakeApi, engine

MIRROR = Mirror("http://mirror.example/debian", "http://mirror.example/debian-security")
PROXY = 'Acquire::http::Proxy "http://me:password@proxy.example:3128";'
RECIPE = Recipe("bookworm", Apt(MIRROR, [PROXY], None), ("mtools",), "invoke==1 \\\n")
SLIM = "debian:bookworm-slim"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wheels and root file systems are not fetched."""
    monkeypatch.setattr(image, "_fetch_wheels", lambda _, scratch: (scratch / "wheels").mkdir())
    monkeypatch.setattr(image, "_bootstrap", lambda engine, _, name, __: engine.import_image(Path("t"), name))


def make(api: FakeApi, tmp_path: Path, recipe: Recipe = RECIPE) -> str:
    """The image's name."""
    asked: Engine = engine(api)
    return builder_image(asked, recipe, Cache(tmp_path), Progress())


def test_an_image_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    api = FakeApi(images=[RECIPE.name])
    assert make(api, tmp_path) == RECIPE.name
    assert api.done == []


@pytest.mark.usefixtures("offline")
def test_it_is_made_of_the_registrys_debian(tmp_path: Path) -> None:
    api = FakeApi()
    name = make(api, tmp_path)
    assert api.done == [f"pull {SLIM}", "start", "wait", f"commit {name}", "remove"]
    assert api.containers[0]["image"] == SLIM
    assert api.containers[0]["command"][-1] == "mtools"


@pytest.mark.usefixtures("offline")
def test_it_is_made_of_a_debian_that_the_engine_has_already(tmp_path: Path) -> None:
    make(api := FakeApi(images=[SLIM]), tmp_path)
    assert f"pull {SLIM}" not in api.done


@pytest.mark.usefixtures("offline")
def test_where_the_registry_gives_none_one_is_made_here(tmp_path: Path) -> None:
    api = FakeApi()
    api.refusal = "no such host"
    make(api, tmp_path)
    assert api.done[:2] == [f"pull {SLIM}", "import xenpair-base:bookworm"]
    assert api.containers[0]["image"] == "xenpair-base:bookworm"


def test_where_none_can_be_made_either_both_reasons_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    api = FakeApi()
    api.refusal = "no such host"
    with pytest.raises(BuildError, match=r"no such host.*no mmdebstrap") as e:
        make(api, tmp_path)
    assert f"docker pull {SLIM}" in e.value.hint
    assert not api.containers


@pytest.mark.usefixtures("offline")
def test_a_package_that_cannot_be_installed_is_told_and_no_image_remains(tmp_path: Path) -> None:
    api = FakeApi(images=[SLIM])
    api.output, api.code = [(b"Reading lists\n", b"E: Unable to locate package mtools\n")], 100
    with pytest.raises(BuildError, match=r"exit code 100\)\n(?s:.*)E: Unable to locate package mtools"):
        make(api, tmp_path)
    assert api.done == ["start", "wait", "remove"]


@pytest.mark.usefixtures("offline")
def test_the_password_of_a_proxy_is_in_nothing_that_an_engine_keeps(tmp_path: Path) -> None:
    make(api := FakeApi(images=[SLIM]), tmp_path)
    assert "password" not in repr(api.containers)
    assert {mount["Type"] for mount in api.host_config["Mounts"]} == {"bind"}
    assert all(mount["ReadOnly"] for mount in api.host_config["Mounts"])


def test_a_debian_made_here_does_not_know_how_this_host_reaches_its_mirror() -> None:
    argv = bootstrap_argv(RECIPE, Path("apt.conf"), Path("base.tar"))
    assert "password" not in repr(argv)
    (hook,) = (word for word in argv if word.startswith("--customize-hook="))
    assert {'"$1"/etc/apt/apt.conf.d/99mmdebstrap', '"$1"/etc/apt/sources.list'} <= set(hook.split())


@pytest.mark.parametrize(
    "other",
    [
        Recipe("trixie", RECIPE.apt, RECIPE.packages, RECIPE.requirements),
        Recipe("bookworm", Apt(None, [], None), RECIPE.packages, RECIPE.requirements),
        Recipe("bookworm", RECIPE.apt, ("mtools", "zstd"), RECIPE.requirements),
        Recipe("bookworm", RECIPE.apt, RECIPE.packages, "invoke==2 \\\n"),
    ],
    ids=["release", "mirror", "packages", "lock"],
)
def test_another_input_is_another_image(other: Recipe) -> None:
    assert other.name != RECIPE.name


def test_another_proxy_is_the_same_image() -> None:
    assert Recipe("bookworm", Apt(MIRROR, [], None), RECIPE.packages, RECIPE.requirements).name == RECIPE.name


def test_it_has_every_package_that_preflight_can_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_is_there", lambda _: False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PreflightError) as e:
        preflight.check_tools(["iso", "netboot"])
    assert set(e.value.hint.split()[2:]) == {*preflight.packages()}


def test_of_the_lock_it_has_what_a_build_needs_with_every_hash_and_no_linter() -> None:
    lock, project = ((REPOSITORY / name).read_text() for name in ("requirements.lock", "pyproject.toml"))
    part = needed(lock, project)
    names = set(re.findall(r"^([^ =]+)==", part, re.MULTILINE))
    assert {"invoke", "pydantic", "pydantic-core", "pyyaml", "qemu-qmp", "zstandard", "markupsafe"} <= names
    assert not {"mypy", "playwright", "pytest", "ruff", "hypothesis"} & names
    entry = re.search(r"^pydantic-core==(?:.*\\\n)+.*\n", lock, re.MULTILINE)
    assert entry is not None
    assert entry[0] in part
