"""The secrets file: made once, private, no value ever replaced, never printed."""

import os
import re
import threading
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.document import parse as parse_yaml
from config.findings import ConfigError
from config.model import Cluster
from config.secrets import Secrets, ensure, load, parse

CLUSTER = Cluster.model_validate(parse_yaml(Path("config/cluster.yaml").read_bytes(), "cluster.yaml").value)
GOOD = Secrets(authkeys="a" * 64, drbd="b" * 48, join="c" * 64, bmc={"bmc-xen1": "hunter2"})


def without_bmcs(cluster: Cluster) -> Cluster:
    return cluster.model_copy(update={"nodes": tuple(node.model_copy(update={"bmc": None}) for node in cluster.nodes)})


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


def test_new_secrets_hold_a_random_password_for_each_bmc_of_the_config(tmp_path: Path) -> None:
    made = ensure(CLUSTER, tmp_path / "s")
    assert set(made.bmc) == {"bmc-xen1", "bmc-xen2"}
    assert len(set(made.bmc.values())) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9]{16}", password) for password in made.bmc.values())
    assert "real password" in (tmp_path / "s" / "xenpair.yaml").read_text()
    assert made.bmc_password("secret:bmc-xen1") == made.bmc["bmc-xen1"]


def test_a_cluster_without_bmcs_gets_no_passwords(tmp_path: Path) -> None:
    assert ensure(without_bmcs(CLUSTER), tmp_path / "s").bmc == {}


THREE, BMC = GOOD.to_yaml().partition("bmc:")[0], "bmc:\n  bmc-xen1: hunter2\n"


@pytest.mark.parametrize(
    "text",
    [
        THREE,
        THREE + "bmc: {}  # none yet\n",
        "# mine\nbmc: { }\n" + THREE,
        "bmc:\n    # the old server\n    bmc-xen1: '0123'\n" + THREE + "# the end",
        THREE + BMC + "  other: '#1'\n",
        THREE.replace("\n", "\r\n") + "bmc: {}\r\n",
    ],
)
def test_missing_bmc_passwords_are_added_and_nothing_else_is_changed(text: str, tmp_path: Path) -> None:
    before, after, directory = adding(text, tmp_path)
    assert set(after.bmc) == {"bmc-xen1", "bmc-xen2"} | set(before.bmc)
    assert after.model_copy(update={"bmc": before.bmc}) == before
    assert before.bmc.items() <= after.bmc.items()
    file = directory / "xenpair.yaml"
    assert file.stat().st_mode & 0o7777 == 0o600
    assert names(directory) == ["xenpair.yaml"]
    assert all(comment in file.read_text() for comment in ["# Made at random", *re.findall("# .*", text)])
    content, inode = file.read_bytes(), file.stat().st_ino
    assert ensure(CLUSTER, directory) == after
    assert (file.read_bytes(), file.stat().st_ino) == (content, inode)


@pytest.mark.parametrize("text", ["{" + THREE.replace("\n", ", ") + "}", THREE + "bmc: {bmc-xen1: 'a: b', other: x}"])
def test_a_file_in_another_spelling_is_rewritten_with_the_same_values(text: str, tmp_path: Path) -> None:
    before, after, _ = adding(text, tmp_path)
    assert set(after.bmc) == {"bmc-xen1", "bmc-xen2"} | set(before.bmc)
    assert after.model_copy(update={"bmc": before.bmc}) == before
    assert before.bmc.items() <= after.bmc.items()


def adding(text: str, path: Path) -> tuple[Secrets, Secrets, Path]:
    """Before and after the passwords were added to a file of that text, and its directory."""
    directory = path / "s"
    directory.mkdir(mode=0o700)
    before = load(private(directory, text))
    after = ensure(CLUSTER, directory)
    assert load(directory / "xenpair.yaml") == after
    return before, after, directory


def test_processes_that_add_passwords_at_once_use_the_same(tmp_path: Path) -> None:
    ensure(without_bmcs(CLUSTER), tmp_path / "s")
    with get_context("fork").Pool(8) as pool:
        made = pool.starmap(ensure, [(CLUSTER, tmp_path / "s")] * 16)
    assert len({s.bmc["bmc-xen1"] for s in made}) == 1
    assert names(tmp_path / "s") == ["xenpair.yaml"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(CLUSTER, tmp_path / "s")
    file = tmp_path / "s" / "xenpair.yaml"
    old = GOOD.to_yaml()
    file.write_text(old)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        ensure(CLUSTER, tmp_path / "s")
    assert names(tmp_path / "s") == ["xenpair.yaml"]
    assert file.read_text() == old


def test_secrets_do_not_show_in_their_repr() -> None:
    for text in (repr(GOOD), str(GOOD), f"{GOOD}", repr([GOOD])):
        assert not any(value in text for value in (GOOD.authkeys, GOOD.drbd, GOOD.join, "hunter2"))


@given(st.dictionaries(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), st.text(min_size=1, max_size=20), max_size=3))
def test_secrets_survive_the_way_through_a_file(bmc: dict[str, str]) -> None:
    if all(len(p.encode("utf-8", "replace")) <= 20 and p.isprintable() for p in bmc.values()):
        before = GOOD.model_copy(update={"bmc": bmc})
        assert parse(before.to_yaml().encode(), "x") == before
