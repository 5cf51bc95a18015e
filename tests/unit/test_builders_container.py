"""Where a build happens, and what of this host its container is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.loader import load
from images import preflight
from images.builders import choice, container, host
from images.builders.choice import Wish
from images.builders.container import Site, build_in_container, inside
from images.builders.engine import Engine
from images.builders.host import Apt, Caller, proxy_options, subordinate
from images.errors import BuildError, EngineError, PreflightError
from images.jobs import REPOSITORY
from images.progress import Progress
from images.sources import Mirror
from tests.unit.builders_rig import FakeApi, engine
from tests.unit.conftest import EXAMPLE

MIRROR = Mirror("https://mirror.example/debian", "https://mirror.example/debian-security")
PROXY = 'Acquire::http::Proxy "http://me:password@proxy.example:3128";'


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """An engine that has the builder's image; the caller is 1000:1001."""
    monkeypatch.setattr(container, "builder_image", lambda *_: "builder:1")
    monkeypatch.setattr(container, "commit_time", lambda _: 1700000000)
    monkeypatch.setattr(Apt, "here", lambda: Apt(MIRROR, [PROXY], None))
    monkeypatch.setattr(Caller, "here", lambda: Caller(1000, 1001, "200000:65536"))
    return FakeApi()


def build(api: FakeApi, directory: Path) -> int:
    """Exit code of a build with config, out and cache below a directory."""
    (directory / "site").mkdir()
    (config := directory / "site/my.yaml").write_bytes(EXAMPLE.read_bytes())
    loaded = load(config)
    site = Site.of(loaded, directory / "out", directory / "cache")
    words = ["build-image", "--formats", "qcow2"]
    return build_in_container(engine(api), loaded, words, site, suite="bookworm", progress=Progress())


def mounts(api: FakeApi) -> dict[str, dict[str, Any]]:
    """Of the last container, by target."""
    return {mount["Target"]: mount for mount in api.host_config["Mounts"]}


def test_it_may_change_the_secrets_out_and_the_cache_and_nothing_else(api: FakeApi, tmp_path: Path) -> None:
    build(api, tmp_path)
    found = {mount["Source"]: mount["ReadOnly"] for mount in mounts(api).values()}
    writable = {source for source, read_only in found.items() if not read_only}
    assert writable == {str(tmp_path / name) for name in ("site/secrets", "out", "cache")}
    assert found[str(REPOSITORY)]
    assert found[str(tmp_path / "site")]
    assert (tmp_path / "site/secrets").stat().st_mode & 0o777 == 0o700


def test_the_same_command_runs_as_the_caller_on_the_same_files(api: FakeApi, tmp_path: Path) -> None:
    build(api, tmp_path)
    script, *words = api.containers[0]["command"][1:]
    assert script == inside(REPOSITORY / "templates/build/enter")
    assert words[:5] == ["1000", "1001", "200000", "65536", ""]
    assert words[5:] == [
        *("/opt/xenpair/bin/invoke", "build-image", "--formats", "qcow2", "--builder", "local"),
        *("--config", inside(tmp_path / "site/my.yaml"), "--out", inside(tmp_path / "out")),
    ]
    assert api.containers[0]["working_dir"] == inside(REPOSITORY)
    assert api.containers[0]["environment"]["SOURCE_DATE_EPOCH"] == "1700000000"


def test_root_of_a_rootless_engine_is_the_caller(api: FakeApi, tmp_path: Path) -> None:
    api.info_answer["SecurityOptions"] = ["name=seccomp", "name=rootless"]
    build(api, tmp_path)
    assert api.containers[0]["command"][2:4] == ["0", "0"]


def test_an_engine_in_a_virtual_machine_keeps_the_cache_itself(api: FakeApi, tmp_path: Path) -> None:
    api.info_answer["OperatingSystem"] = "Docker Desktop"
    build(api, tmp_path)
    cache = mounts(api)[inside(REPOSITORY / ".cache")]
    assert (cache["Type"], cache["Source"]) == ("volume", "xenpair-cache")
    assert inside(REPOSITORY / ".cache") in api.containers[0]["command"]


def test_secrets_are_neither_in_the_environment_nor_in_an_argv(api: FakeApi, tmp_path: Path) -> None:
    build(api, tmp_path)
    assert "password" not in repr(api.containers)


def test_the_exit_code_is_that_of_the_build_inside(api: FakeApi, tmp_path: Path) -> None:
    api.code = 2
    assert build(api, tmp_path) == 2


def test_an_out_that_cannot_be_made_is_one_clear_error(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(BuildError, match=r"out cannot be made: File exists"):
        build(api, tmp_path)
    assert not api.containers


def test_messages_have_the_paths_of_the_host_and_their_stream(
    api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"xenpair: {inside(Path('/home/me/my.yaml'))}:3: no\n".encode()
    api.output = [(None, message[:20]), (b"done\n", message[20:40]), (None, message[40:])]
    build(api, tmp_path)
    said = capsys.readouterr()
    assert said.err.endswith("xenpair: /home/me/my.yaml:3: no\n")
    assert said.out == "done\n"


@pytest.mark.parametrize(
    ("table", "found"),
    [("me:200000:65536\n", "200000:65536"), ("you:1:2\n1000:300000:65536\n", "300000:65536"), ("", "100000:65536")],
)
def test_subordinate_ids_are_those_that_a_local_build_would_take(table: str, found: str) -> None:
    assert subordinate(table, {"me", "1000"}) == found


def test_a_containers_apt_has_the_mirror_and_the_proxy_of_this_one(tmp_path: Path) -> None:
    by_target = {
        mount["Target"]: Path(mount["Source"]) for mount in Apt(MIRROR, [PROXY], None).mounts("trixie", tmp_path)
    }
    text = by_target["/etc/apt/sources.list.d/debian.sources"].read_text()
    assert f"URIs: {MIRROR.main}\nSuites: trixie trixie-updates" in text
    assert f"URIs: {MIRROR.security}\nSuites: trixie-security" in text
    settings = by_target["/etc/apt/apt.conf.d/90xenpair"]
    assert settings.read_text() == f"{PROXY}\n"
    assert settings.stat().st_mode & 0o777 == 0o600


def test_without_a_mirror_of_this_host_the_containers_own_stays(tmp_path: Path) -> None:
    assert [mount["Target"] for mount in Apt(None, [], None).mounts("trixie", tmp_path)] == [
        "/etc/apt/apt.conf.d/90xenpair"
    ]


def test_certificates_are_shown_those_that_apt_names_or_else_what_the_host_trusts(tmp_path: Path) -> None:
    (own := tmp_path / "ca.crt").touch()
    named = Apt(MIRROR, [f'Acquire::https::CaInfo "{own}";'], own).mounts("trixie", tmp_path)
    assert str(own) in {mount["Target"] for mount in named}
    trusted = Apt(MIRROR, [], own).mounts("trixie", tmp_path)
    assert "/run/xenpair/certificates" in {mount["Target"] for mount in trusted}


def test_proxy_variables_become_settings_of_apt() -> None:
    environment = {"http_proxy": "http://p:3128", "no_proxy": "localhost, mirror.example,.corp,10.0.0.0/8"}
    assert proxy_options(environment) == [
        'Acquire::http::Proxy "http://p:3128";',
        *(f'Acquire::{scheme}::Proxy::localhost "DIRECT";' for scheme in ("http", "https")),
        *(f'Acquire::{scheme}::Proxy::mirror.example "DIRECT";' for scheme in ("http", "https")),
    ]


def test_a_builder_that_there_is_not_is_told_with_those_that_there_are() -> None:
    for text in ("podman", "docker:sid", "local:trixie", "docker:", ""):
        with pytest.raises(BuildError, match="no builder") as e:
            choice.parse(text)
        assert "docker:trixie" in e.value.hint


def test_the_containers_release_is_the_hosts_unless_it_is_named() -> None:
    assert choice.parse("docker:trixie") == Wish("docker", "trixie")
    assert choice.parse("auto") == Wish("auto", host.suite())


class TestAuto:
    """`--builder auto`."""

    @staticmethod
    def no_engine() -> Engine:
        raise EngineError("no engine", hint="install one")

    @staticmethod
    def lacking(_: object) -> None:
        raise PreflightError("no mtools", hint="apt-get install mtools")

    @pytest.fixture
    def able(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preflight, "check_tools", lambda _: None)
        monkeypatch.setattr(preflight, "check_namespaces", lambda: None)

    @pytest.mark.usefixtures("able")
    def test_it_builds_here_where_that_can_be_done_and_asks_no_engine(self) -> None:
        assert choice.engine_for(Wish("auto", "trixie"), ("qcow2",), self.no_engine) is None

    @pytest.mark.usefixtures("able")
    def test_docker_is_docker_also_where_this_host_could(self) -> None:
        with pytest.raises(EngineError):
            choice.engine_for(Wish("docker", "trixie"), ("qcow2",), self.no_engine)

    def test_it_builds_in_a_container_where_this_host_lacks_something(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preflight, "check_tools", self.lacking)
        there = engine(FakeApi())
        assert choice.engine_for(Wish("auto", "trixie"), ("qcow2",), lambda: there) is there

    def test_where_neither_can_be_both_reasons_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preflight, "check_tools", self.lacking)
        with pytest.raises(BuildError, match=r"no mtools.*no engine") as e:
            choice.engine_for(Wish("auto", "trixie"), ("qcow2",), self.no_engine)
        assert {"mtools", "install"} <= set(e.value.hint.split())

    def test_local_is_local_and_says_itself_what_is_missing(self) -> None:
        assert choice.engine_for(Wish("local", "trixie"), ("qcow2",), self.no_engine) is None
