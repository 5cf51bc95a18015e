"""A node as the build host reaches it, and the package that it would bring: SSH is a fake, the signature is real."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from config.door import Output, sha256_of
from config.errors import CommandError
from config.loader import Loaded, load
from config.upgrade import NodePlan
from images import manifest, signing
from images.errors import UpgradeError
from images.manifest import Artifact, Manifest
from images.upgrading import remote
from images.upgrading.offer import Offer, offer
from images.upgrading.remote import Remote, nodes
from tests.unit.conftest import EXAMPLE

XEN1 = Remote("xen1", "root@192.168.132.1")
STATUS = {
    "health": "degraded",
    "firstboot": {"state": "done"},
    "drbd": dict.fromkeys(("connection", "role", "peer_role", "disk", "peer_disk"), "X"),
    "heartbeat": {"state": "alone"},
    "fencing": {"state": "unready", "reason": "the BMC says nothing"},
    "guests": [{"name": "web01", "held": "no room"}],
}
Answers = Callable[[Sequence[str]], Output]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], list[list[str]]]:
    """Answers in place of SSH; what was asked."""

    def install(answers: Answers) -> list[list[str]]:
        seen: list[list[str]] = []

        def run(argv: Sequence[str | Path], *, check: bool = True, timeout: float = 0) -> Output:
            seen.append([str(word) for word in argv])
            found = answers(seen[-1])
            if check and found.returncode != 0:
                raise CommandError(seen[-1], found.returncode, found.stderr)
            return found

        monkeypatch.setattr(remote, "run", run)
        return seen

    return install


def test_a_node_is_as_healthy_as_its_status_says(asked: Callable[[Answers], object]) -> None:
    asked(lambda _: Output(2, json.dumps(STATUS), ""))
    health = XEN1.health()
    assert health.state == "degraded"
    assert "heartbeat alone" in health.text
    assert "the BMC says nothing" in health.text
    assert "web01 held: no room" in health.text


@pytest.mark.parametrize("output", [Output(255, "", "ssh: connect: No route to host"), Output(1, "Traceback", "bug")])
def test_a_node_that_gives_no_status_is_not_healthy(asked: Callable[[Answers], object], output: Output) -> None:
    asked(lambda _: output)
    health = XEN1.health()
    assert not health.healthy
    assert health.text == output.stderr


def test_package_and_config_go_where_the_plan_reads_them(asked: Callable[[Answers], list[list[str]]]) -> None:
    plan = NodePlan(node="xen1", installed="1", offered="2")
    seen = asked(lambda _: Output(0, plan.model_dump_json(), ""))
    XEN1.send(Offer(Path("/out/x.deb"), load(EXAMPLE)))
    assert XEN1.plan() == plan
    copies = {argv[-2]: argv[-1].partition(":")[2] for argv in seen if argv[0] == "scp"}
    assert set(copies) == {"/out/x.deb", str(EXAMPLE)}
    assert all(path in seen[-1][-1] for path in copies.values())
    assert "install -d -m 0700" in seen[0][-1]


def test_what_the_node_says_is_the_reason(asked: Callable[[Answers], object]) -> None:
    asked(lambda _: Output(1, "", "xenpair: xen2 has 10M free"))
    with pytest.raises(UpgradeError, match="xen1: xenpair: xen2 has 10M free"):
        XEN1.upgrade()


def test_a_node_that_answers_something_else_is_of_another_version(asked: Callable[[Answers], object]) -> None:
    asked(lambda _: Output(0, '{"node": 1}', ""))
    with pytest.raises(UpgradeError, match="does not answer as this xenpair does"):
        XEN1.plan()


@pytest.fixture
def sleepless(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("images.upgrading.remote.time.monotonic", lambda: now[0])
    monkeypatch.setattr("images.upgrading.remote.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def test_a_reboot_is_over_when_another_boot_answers(asked: Callable[[Answers], object], sleepless: None) -> None:
    answers = iter([Output(0, "old\n", ""), Output(0, "old\n", ""), Output(255, "", "refused"), Output(0, "new\n", "")])
    asked(lambda argv: next(answers) if "boot_id" in argv[-1] else Output(255, "", "closed"))
    XEN1.reboot(60)
    assert next(answers, None) is None


@pytest.mark.parametrize("last", [Output(0, "old\n", ""), Output(255, "", "refused")])
def test_a_node_that_does_not_come_back_is_given_up(
    asked: Callable[[Answers], object], sleepless: None, last: Output
) -> None:
    first = iter([Output(0, "old\n", "")])
    asked(lambda argv: next(first, last) if "boot_id" in argv[-1] else Output(0, "", ""))
    with pytest.raises(UpgradeError, match="xen1 has not come back 60 s after its reboot"):
        XEN1.reboot(60)


def test_nodes_are_reached_where_the_config_or_an_ssh_config_says(tmp_path: Path) -> None:
    cluster = load(EXAMPLE).cluster
    assert [node.target for node in nodes(cluster, None)] == ["root@192.168.132.1", "root@192.168.132.2"]
    assert [node.target for node in nodes(cluster, tmp_path)] == ["xen1", "xen2"]


@pytest.fixture
def built(real_programs: None, tmp_path: Path) -> Loaded:
    """What `invoke build-image` leaves in out, of a package that is no real one."""
    config = tmp_path / "cluster.yaml"
    config.write_bytes(EXAMPLE.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "secrets").mkdir(mode=0o700)
    (out / "x.deb").write_text("package")
    artifact = Artifact(size=7, sha256=sha256_of(out / "x.deb"))
    made = Manifest(
        suite="trixie", key="k", config_hash="h", root_uuid="u", kernel="6.12", warnings=(), sources=(),
        artifacts={"x.deb": artifact}, packages={},
    )  # fmt: skip
    (out / manifest.NAME).write_text(made.to_json())
    (out / manifest.SUMS).write_text(manifest.sums(made))
    key = signing.ensure(tmp_path / "secrets")
    (out / manifest.SUMS_SIGNATURE).write_text(key.sign(manifest.sums(made)))
    return load(config)


def test_a_package_that_this_site_has_signed_is_offered(built: Loaded) -> None:
    assert offer(built, built.source.parent / "out").package.name == "x.deb"


def test_a_package_that_was_changed_is_not(built: Loaded) -> None:
    out = built.source.parent / "out"
    (out / "x.deb").write_text("another")
    with pytest.raises(UpgradeError, match="not the package that SHA256SUMS tells of"):
        offer(built, out)


def test_sums_that_were_changed_with_it_are_not(built: Loaded) -> None:
    out = built.source.parent / "out"
    (out / "x.deb").write_text("another")
    sums = f"{sha256_of(out / 'x.deb')}  x.deb\n"
    (out / manifest.SUMS).write_text(sums)
    other = built.source.parent / "theirs"
    other.mkdir(mode=0o700)
    for signature in (None, signing.ensure(other).sign(sums)):
        if signature:
            (out / manifest.SUMS_SIGNATURE).write_text(signature)
        with pytest.raises(UpgradeError, match="is not what the key"):
            offer(built, out)


def test_without_a_build_or_its_key_there_is_nothing_to_offer(built: Loaded) -> None:
    out = built.source.parent / "out"
    (out / manifest.SUMS_SIGNATURE).unlink()
    with pytest.raises(UpgradeError, match="is not what the key"):
        offer(built, out)
    (built.source.parent / "secrets" / f"{signing.KEY}.pub").unlink()
    with pytest.raises(UpgradeError, match="has no key"):
        offer(built, out)
    (out / manifest.NAME).unlink()
    with pytest.raises(UpgradeError, match="holds no image"):
        offer(built, out)
