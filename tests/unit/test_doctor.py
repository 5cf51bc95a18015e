"""What a host lacks is named, with the command that mends it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from config.errors import XenpairError
from config.model import Cluster
from images import doctor, namespace, preflight, sources
from images.builders import engine
from images.doctor import Finding
from images.errors import EngineError, MirrorError, PreflightError
from lab import doctor as command
from lab.errors import LabError

ALLOWED = {"/etc/subuid": "root:1:65536\nadmin:100000:65536\n", "/etc/subgid": "1000:100000:65536\n"}


def mend(files: dict[str, str] | None = None, *, uid: int = 1000) -> str:
    there = ALLOWED | (files or {})
    return namespace.mend(uid, "admin", lambda path: there.get(path, ""))


def test_a_user_without_a_range_of_numbers_is_given_one() -> None:
    both = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 admin"
    assert mend({"/etc/subuid": "", "/etc/subgid": "other:100000:65536\n"}) == both
    assert mend({"/etc/subgid": "admin:100000:10\n"}) == "sudo usermod --add-subgids 100000-165535 admin"


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("user/max_user_namespaces", "0\n", "user.max_user_namespaces=15000"),
        ("kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_a_kernel_that_forbids_user_namespaces_is_told_to_allow_them(name: str, value: str, setting: str) -> None:
    assert mend({f"/proc/sys/{name}": value}) == f"sudo sysctl -w {setting}"


def test_what_nothing_explains_takes_root_and_root_takes_a_container_that_may() -> None:
    assert mend() == "run the build as root: sudo"
    assert "--privileged" in mend(uid=0)


def test_what_is_missing_is_told_apart_from_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool, **_: None if tool == "xorriso" else f"/usr/bin/{tool}")
    there, missing = doctor.programs("media", {"xorriso": "xorriso", "tar": "tar"})
    assert there == Finding("media", "tar")
    assert missing == Finding("media", "xorriso is not there", "missing", package="xorriso")


def test_a_check_that_fails_says_what_to_do() -> None:
    def refuse() -> None:
        raise PreflightError("no namespaces", hint="sudo sysctl")

    assert doctor.check("build", "namespaces", lambda: None) == Finding("build", "namespaces")
    assert doctor.check("build", "namespaces", refuse) == Finding("build", "no namespaces", "missing", "sudo sysctl")


def test_space_is_looked_for_without_making_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PAYLOAD_SPACE", 1 << 60)
    monkeypatch.setattr(preflight, "FORMATS", {})
    (finding,) = doctor.media(tmp_path / "far/away")
    assert finding.state == "missing"
    assert "of free space" in finding.what
    assert "invoke cache --prune" in finding.mend
    assert not (tmp_path / "far").exists()


def test_a_mirror_that_does_not_answer_is_missing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(uri: str, target: Path) -> bytes:
        raise MirrorError(f"cannot fetch {uri}", hint="check the network")

    monkeypatch.setattr(sources, "fetch", unreachable)
    monkeypatch.setattr(preflight, "check_namespaces", lambda: None)
    debian = cluster.debian.model_copy(update={"mirror": "http://mirror.example/debian"})
    *_, last = doctor.build(debian, tmp_path, tmp_path)
    what = "cannot fetch http://mirror.example/debian/dists/trixie/InRelease"
    assert last == Finding("build", what, "missing", "check the network")


def test_what_is_missing_is_worth_a_note_where_an_engine_builds(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool, **_: None if tool == "mcopy" else f"/usr/bin/{tool}")
    monkeypatch.setattr(preflight, "check_namespaces", lambda: None)
    monkeypatch.setattr(sources, "fetch", lambda *_: b"")
    debian = cluster.debian.model_copy(update={"mirror": "http://mirror.example/debian"})
    answers: list[XenpairError] = []

    def connect() -> None:
        if answers:
            raise answers[0]

    monkeypatch.setattr(engine, "connect", connect)
    states = {finding.what: finding.state for finding in doctor.build(debian, tmp_path, tmp_path)}
    assert (states["mcopy is not there"], states["a Docker engine"]) == ("note", "ok")
    answers.append(EngineError("no engine", hint="start one"))
    states = {finding.what: finding.state for finding in doctor.build(debian, tmp_path, tmp_path)}
    assert (states["mcopy is not there"], states["no engine: no --builder docker"]) == ("missing", "note")


def test_all_packages_are_installed_by_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding("build", "mcopy is not there", "missing", package="mtools"),
        Finding("lab", "mcopy is not there", "missing", package="mtools"),
        Finding("media", "xorriso is not there", "missing", package="xorriso"),
        Finding("build", "no namespaces", "missing", "sudo sysctl"),
        Finding("lab", "no KVM", "note", "sudo usermod"),
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command.mends(found) == ["sudo apt-get install mtools xorriso", "sudo sysctl"]
    assert command.line(found[2]) == "media      MISSING  xorriso is not there"
    assert command.line(found[4]) == "lab        note     no KVM: sudo usermod"
    assert command.mends(found[4:]) == []


def test_areas_are_chosen_by_name() -> None:
    assert command.areas("lab, build") == ("lab", "build")
    assert len(command.areas("")) == 5
    with pytest.raises(LabError, match="there is nothing to look at called 'la'"):
        command.areas("la")
