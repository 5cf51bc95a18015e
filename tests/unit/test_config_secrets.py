"""The secrets file: made once, private, never overwritten, never printed."""

import os
import threading
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.document import parse as parse_yaml
from config.findings import ConfigError
from config.model import Bmc, Cluster
from config.secrets import Secrets, ensure, load, parse

CLUSTER = Cluster.model_validate(parse_yaml(Path("config/cluster.yaml").read_bytes(), "cluster.yaml").value)
GOOD = Secrets(authkeys="a" * 64, drbd="b" * 48, join="c" * 64, bmc={"bmc-xen1": "hunter2"})


def with_bmc(cluster: Cluster) -> Cluster:
    bmc = Bmc.model_validate({"address": "10.0.0.1", "user": "admin", "password": "secret:bmc-xen1"})
    first = cluster.nodes[0].model_copy(update={"bmc": bmc})
    return cluster.model_copy(update={"nodes": (first, cluster.nodes[1])})


def private(path: Path, text: str) -> Path:
    file = path / "xenpair.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return str(caught.value)


def test_secrets_are_made_at_first_use_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "secrets"
    first = ensure(CLUSTER, directory)
    file = directory / "xenpair.yaml"
    content = file.read_bytes()
    assert ensure(CLUSTER, directory) == first
    assert file.read_bytes() == content
    assert file.stat().st_mode & 0o7777 == 0o600
    assert directory.stat().st_mode & 0o7777 == 0o700
    assert names(directory) == ["xenpair.yaml"]


def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ensure(CLUSTER, tmp_path / "secrets")
    finally:
        os.umask(old)
    assert (tmp_path / "secrets" / "xenpair.yaml").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "secrets").stat().st_mode & 0o7777 == 0o700


def test_two_clusters_have_different_secrets(tmp_path: Path) -> None:
    other = CLUSTER.model_copy(update={"cluster": CLUSTER.cluster.model_copy(update={"name": "other"})})
    one, two = ensure(CLUSTER, tmp_path / "s"), ensure(other, tmp_path / "s")
    assert not {one.authkeys, one.drbd, one.join} & {two.authkeys, two.drbd, two.join}


def test_secrets_are_long_enough_and_fit_drbd(tmp_path: Path) -> None:
    made = ensure(CLUSTER, tmp_path / "s")
    assert len(bytes.fromhex(made.authkeys)) * 8 >= 256
    assert len(bytes.fromhex(made.join)) == 32
    assert len(made.drbd) < 64


def test_processes_that_start_at_once_use_the_same_secrets(tmp_path: Path) -> None:
    with get_context("fork").Pool(8) as pool:
        made = pool.starmap(ensure, [(CLUSTER, tmp_path / "s")] * 16)
    assert len({s.join for s in made}) == 1
    assert names(tmp_path / "s") == ["xenpair.yaml"]


def test_the_loser_of_a_race_takes_the_winners_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_saw_nothing = threading.Barrier(2, timeout=10)
    link = os.link

    def late(source: str, target: Path) -> None:
        both_saw_nothing.wait()
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    made: list[Secrets] = []
    threads = [threading.Thread(target=lambda: made.append(ensure(CLUSTER, tmp_path / "s"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert made[0] == made[1]
    assert names(tmp_path / "s") == ["xenpair.yaml"]


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        ensure(CLUSTER, tmp_path / "s")
    assert names(tmp_path / "s") == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    file = private(tmp_path, GOOD.to_yaml())
    file.chmod(mode)
    assert f"chmod 600 {file}" in refusal(file)


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        ensure(CLUSTER, tmp_path / "s")
    assert names(tmp_path / "s") == []


def test_somebody_elses_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = private(tmp_path, GOOD.to_yaml())
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert "belongs to user" in refusal(file)


@pytest.mark.parametrize("target", ["good.yaml", "nowhere.yaml"])
def test_a_symbolic_link_is_refused_and_not_replaced(target: str, tmp_path: Path) -> None:
    directory = tmp_path / "s"
    directory.mkdir(mode=0o700)
    private(tmp_path, GOOD.to_yaml()).rename(tmp_path / "good.yaml")
    (directory / "xenpair.yaml").symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        ensure(CLUSTER, directory)
    assert (directory / "xenpair.yaml").is_symlink()


def test_a_directory_or_a_fifo_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "f", 0o600)
    assert "is not a file" in refusal(tmp_path / "d")
    assert "is not a file" in refusal(tmp_path / "f")


def test_a_file_that_does_not_exist_is_said(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ("join:", "jion:", "jion", "did you mean join?"),
        ("join: " + "c" * 64, "", "join", "is missing"),
        ("a" * 64, "a" * 63, "authkeys", "does not have the right form"),
        ("b" * 48, "b" * 64, "drbd", "does not have the right form"),
        ("c" * 64, "", "join", "must be one value, and is empty"),
        ("hunter2", "hunter2" * 3, "bmc.bmc-xen1", "1 to 20 bytes"),
        ("hunter2", '"hunter2\\n"', "bmc.bmc-xen1", "control character"),
        ("join:", "drbd: bbb\njoin:", "drbd", "is given twice"),
        ("join:", "\tjoin:", "", "is not valid YAML"),
        ("authkeys", "? [x]\n: y\nauthkeys", "", "no plain word"),
    ],
)
def test_a_wrong_secrets_file_is_explained_without_a_value(
    old: str, new: str, path: str, words: str, tmp_path: Path
) -> None:
    text = GOOD.to_yaml()
    assert old in text
    file = private(tmp_path, text.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(file)
    message = str(caught.value)
    assert words in message
    assert path in [f.path for f in caught.value.findings]
    assert message.startswith(str(file))
    assert not any(value in message for value in ("hunter2", "a" * 20, "b" * 20, "c" * 20, "bbb"))


def test_a_missing_bmc_password_is_asked_for_and_not_invented(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add the line `  bmc-xen1: PASSWORD` under `bmc:`"):
        ensure(with_bmc(CLUSTER), tmp_path / "s")
    file = tmp_path / "s" / "xenpair.yaml"
    file.write_text(file.read_text().replace("bmc: {}", "bmc:\n  bmc-xen1: 0123"))
    found = ensure(with_bmc(CLUSTER), tmp_path / "s")
    assert found.bmc_password("secret:bmc-xen1") == "0123"


def test_secrets_do_not_show_in_their_repr() -> None:
    for text in (repr(GOOD), str(GOOD), f"{GOOD}", repr([GOOD])):
        assert not any(value in text for value in (GOOD.authkeys, GOOD.drbd, GOOD.join, "hunter2"))


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), st.text(min_size=1, max_size=20), max_size=3))
def test_secrets_survive_the_way_through_a_file(bmc: dict[str, str]) -> None:
    if all(len(p.encode("utf-8", "replace")) <= 20 and p.isprintable() for p in bmc.values()):
        before = GOOD.model_copy(update={"bmc": bmc})
        assert parse(before.to_yaml().encode(), "x") == before
