"""What is asked of a Docker engine, and what is said where it does not do it."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import docker
import pytest
from docker.errors import APIError

from images.builders import engine as engines
from images.builders.container import BUILDS
from images.builders.engine import Container, Engine, Line
from images.builders.host import shown
from images.builders.image import INSTALLS
from images.errors import BuildError, EngineError
from tests.unit.builders_rig import FakeApi, engine

BUILD = Container("builder:1", ["sh", "-c", "true"], [shown(Path("/src"), "/run/src")], BUILDS, {"A": "1"}, "/run/src")
INSTALLATION = Container("debian:1", ["true"], [], INSTALLS, {})


def run(api: FakeApi, wanted: Container = BUILD) -> tuple[int, list[Line]]:
    """Exit code of a container, and what it said."""
    said: list[Line] = []
    running: Engine = engine(api)
    with running.container(wanted) as identifier:
        return running.run(identifier, said.append), said


def test_a_build_may_make_namespaces_and_is_not_privileged() -> None:
    run(api := FakeApi())
    assert api.host_config["CapDrop"] == ["ALL"]
    assert "SYS_ADMIN" in api.host_config["CapAdd"]
    assert "Privileged" not in api.host_config
    assert {"no-new-privileges", "apparmor=unconfined"} <= set(api.host_config["SecurityOpt"])
    assert not any(option.startswith("seccomp") for option in api.host_config["SecurityOpt"])
    assert api.host_config["MaskedPaths"] == api.host_config["ReadonlyPaths"] == []


def test_installing_packages_takes_less_than_any_container_has() -> None:
    run(api := FakeApi(), INSTALLATION)
    assert "SYS_ADMIN" not in api.host_config["CapAdd"]
    assert "apparmor=unconfined" not in api.host_config["SecurityOpt"]
    assert "MaskedPaths" not in api.host_config


def test_the_engine_keeps_no_output_and_nothing_of_its_clients_proxies() -> None:
    run(api := FakeApi())
    assert api.host_config["LogConfig"]["Type"] == "none"
    assert api.containers[0]["use_config_proxy"] is False
    assert api.containers[0]["environment"] == {"A": "1"}


@pytest.mark.parametrize(("networks", "mode"), [(["bridge", "host"], "host"), (["host"], "host"), (["nat"], "default")])
def test_the_hosts_network_is_taken_where_there_is_one(networks: list[str], mode: str) -> None:
    run(api := FakeApi(networks=networks))
    assert api.host_config["NetworkMode"] == mode


def test_an_engine_that_maps_users_is_asked_not_to() -> None:
    api = FakeApi()
    run(api)
    assert "UsernsMode" not in api.host_config
    api.info_answer["SecurityOptions"] = ["name=seccomp,profile=default", "name=userns"]
    run(api)
    assert api.host_config["UsernsMode"] == "host"


def test_what_a_container_says_is_passed_on_with_its_exit_code_and_it_is_gone() -> None:
    api = FakeApi()
    api.output, api.code = [(None, b"xenpair: "), (b"a\nb", b"no\n")], 2
    assert run(api) == (2, [Line("a", error=False), Line("xenpair: no", error=True), Line("b", error=False)])
    assert api.done == ["start", "wait", "remove"]


def test_a_container_that_was_killed_is_no_exit_code() -> None:
    api = FakeApi()
    api.code = 137
    with pytest.raises(BuildError, match="signal 9") as e:
        run(api)
    assert "memory" in e.value.hint
    assert api.done[-1] == "remove"


def test_an_interrupted_build_is_interrupted_inside_and_its_container_is_gone() -> None:
    api = FakeApi()
    api.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        run(api)
    assert api.done == ["start", "kill SIGINT", "wait", "remove"]


def test_a_container_that_cannot_start_is_one_clear_error_and_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise APIError("500 Server Error for http+docker://", explanation="OCI runtime create failed: no space left")

    api = FakeApi()
    monkeypatch.setattr(api, "start", refuse)
    with pytest.raises(EngineError, match=r"^the Docker engine failed: OCI runtime create failed: no space left$"):
        run(api)
    assert api.done == ["remove"]


def test_no_engine_is_told_with_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/sock")
    with pytest.raises(EngineError, match="no Docker engine answers here") as e:
        engines.connect()
    assert "apt-get install docker.io" in e.value.hint


def test_a_socket_of_others_is_told_with_the_group_that_opens_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/sock")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(EngineError, match="not open for this user") as e:
        engines.connect()
    assert "usermod -aG docker" in e.value.hint


def test_an_engine_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    api.base_url = "http://192.0.2.1:2375"
    monkeypatch.setattr(docker, "from_env", lambda **_: SimpleNamespace(api=api))
    with pytest.raises(EngineError, match=r"192\.0\.2\.1:2375 is not on this machine") as e:
        engines.connect()
    assert "DOCKER_HOST" in e.value.hint
