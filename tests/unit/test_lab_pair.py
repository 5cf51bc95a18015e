"""What a lab remembers, and what can be done to one that is off."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.loader import load as load_config
from lab import accelerator, disks, machine, ssh
from lab.errors import LabError, NoLabError
from lab.pair import Lab, directory
from lab.process import Process
from lab.report import LabStatus, NodeStatus, Pair
from lab.state import STATE, Snapshot, load
from lab.switch import Fault

CLUSTER = load_config(Path(__file__).parents[2] / "config" / "cluster.yaml").cluster


@pytest.fixture
def lab(real_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(disks, "check", lambda *_: None)
    monkeypatch.setattr(disks, "check_tools", lambda *_: None)
    image = tmp_path / "image.qcow2"
    image.write_bytes(b"image")
    return Lab.create(tmp_path / "lab", CLUSTER, image)


@pytest.fixture
def sleeper(real_programs: None, tmp_path: Path) -> Iterator[Process]:
    process = Process.spawn(["sleep", "60"], cwd=tmp_path, log=tmp_path / "log")
    yield process
    process.kill()


def test_a_lab_is_found_again_with_its_config_and_nobody_else_reads_it(lab: Lab) -> None:
    assert Lab(lab.directory).state().cluster == CLUSTER
    assert stat.S_IMODE(lab.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((lab.directory / ssh.KEY).stat().st_mode) == 0o600


def test_no_lab_and_an_unreadable_state_are_clear_errors(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(NoLabError, match="no lab in"):
        Lab(tmp_path / "nowhere")
    (lab.directory / STATE).write_text('{"cluster": 7')
    with pytest.raises(LabError, match="cannot be read"):
        load(lab.directory)


def test_a_directory_that_holds_something_else_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is not empty and no lab"):
        Lab.create(tmp_path, CLUSTER, tmp_path / "image.qcow2")


def test_a_rebuilt_image_is_another_image_and_the_lab_keeps_its_own(lab: Lab, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    assert disks.same(image, lab.directory)
    image.unlink()
    image.write_bytes(b"other")
    assert not disks.same(image, lab.directory)
    assert (lab.directory / disks.BASE).read_bytes() == b"image"


def test_a_state_of_dead_processes_is_a_lab_that_is_off(lab: Lab, sleeper: Process) -> None:
    lab._update(nodes={"xen1": sleeper.model_copy(update={"boot_id": "another boot"})}, ports={"xen1": 1, "xen2": 2})
    status = lab.status()
    assert [(node.running, node.problem) for node in status.nodes] == [(False, "off"), (False, "off")]
    assert status.exit_code == 1
    lab.down()
    assert sleeper.alive()


def test_a_power_cut_kills_the_node_s_process_and_no_other(lab: Lab, sleeper: Process, tmp_path: Path) -> None:
    other = Process.spawn(["sleep", "60"], cwd=tmp_path, log=tmp_path / "log")
    lab._update(nodes={"xen1": sleeper, "xen2": other})
    lab.kill("xen1")
    assert not sleeper.alive()
    assert other.alive()
    lab.down()
    assert not other.alive()


def test_cables_that_are_out_are_remembered_and_put_back(lab: Lab) -> None:
    lab.cut("cluster")
    lab.cut("guest", "xen2", loss=0.2)
    lab.cut("guest", "xen2", loss=0.3)
    assert set(lab.state().faults) == {
        Fault(segment="cluster", node="xen1"),
        Fault(segment="cluster", node="xen2"),
        Fault(segment="guest", node="xen2", loss=0.3),
    }
    lab.heal("cluster", "xen1")
    assert [fault.node for fault in lab.state().faults] == ["xen2", "xen2"]
    lab.heal()
    assert lab.state().faults == ()


def test_a_node_that_is_not_there_is_named_with_those_that_are(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"no node 'xen3'(?s:.*)xen1, xen2"):
        lab.kill("xen3")


def test_ssh_into_a_lab_that_is_off_says_so(lab: Lab) -> None:
    with pytest.raises(LabError, match="the lab is down"):
        lab.ssh("xen1", "true")


def test_ssh_to_a_node_that_cannot_answer_says_why_at_once(lab: Lab, sleeper: Process) -> None:
    lab._update(nodes={"xen1": sleeper}, ports={"xen1": 1, "xen2": 2}, faults=(Fault(segment="guest", node="xen1"),))
    with pytest.raises(LabError, match="xen1 cannot be reached: its guest cable is out"):
        lab.ssh("xen1", "true")
    with pytest.raises(LabError, match="xen2 cannot be reached: it is off"):
        lab.ssh("xen2", "true")


def test_a_reset_leaves_nothing(lab: Lab) -> None:
    lab.reset()
    assert not lab.directory.exists()
    with pytest.raises(NoLabError):
        lab.reset()


def test_the_ssh_config_shares_a_connection_where_the_path_allows() -> None:
    short = ssh._sharing(Path("/lab/xen1.ssh"))
    assert "ControlMaster auto" in short
    assert ssh._sharing(Path("/" + "x" * 90)) == ""


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "A"])
def test_a_lab_s_name_is_a_plain_file_name(name: str) -> None:
    with pytest.raises(LabError):
        directory(name)


def test_without_kvm_there_is_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_host", lambda: "host")
    verdict = accelerator.choose(tmp_path / "image", 1 << 30, cache=tmp_path / "cache", kvm=tmp_path / "kvm")
    assert (verdict.accelerator, verdict.reason) == ("tcg", f"{tmp_path / 'kvm'}: No such file or directory")


def test_a_verdict_is_remembered_for_the_same_host_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kvm, cache, faults = tmp_path / "kvm", tmp_path / "cache", ["it panics", ""]
    kvm.touch()
    monkeypatch.setattr(accelerator, "_host", lambda: "one host")
    monkeypatch.setattr(accelerator, "_boot", lambda *_: faults.pop(0))
    first = accelerator.choose(tmp_path, 1 << 30, cache=cache, kvm=kvm)
    assert (first.accelerator, first.reason) == ("tcg", "it panics")
    assert accelerator.choose(tmp_path, 1 << 30, cache=cache, kvm=kvm) == first
    monkeypatch.setattr(accelerator, "_host", lambda: "another host")
    assert accelerator.choose(tmp_path, 1 << 30, cache=cache, kvm=kvm).accelerator == "kvm"


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, 2), 2), ((0, None), 2), ((2, 2), 2), ((1, 0), 2), ((1, None), 1)]
)
def test_the_exit_code_is_healthy_only_when_both_nodes_say_so(codes: tuple[int | None, ...], expected: int) -> None:
    nodes = tuple(NodeStatus(name="x", running=True, console="", ssh_port=1, exit_code=code) for code in codes)
    assert LabStatus(accelerator="tcg", accelerator_reason="", cut=(), nodes=nodes).exit_code == expected


def test_a_node_s_answer_is_read_though_it_knows_more_than_we_ask() -> None:
    pair = Pair.parse(
        '{"node": "xen1", "new": 1, "firstboot": {"state": "done", "step": null, "error": null},'
        ' "drbd": {"connection": "Connected", "role": "Primary", "peer_role": "Primary", "disk": "UpToDate",'
        ' "peer_disk": "UpToDate"}, "lvm": {"volume_group": "data"}, "heartbeat": {"state": "running"},'
        ' "guests": [{"name": "web01", "home": "xen1", "running_on": "xen2"}]}'
    )
    assert isinstance(pair, Pair)
    assert pair.drbd.peer_disk == "UpToDate"
    assert pair.guests[0].running_on == "xen2"
    assert "unreadable answer" in str(Pair.parse("Traceback"))


def test_the_disks_of_the_example_pair_can_be_made() -> None:
    machine.check(CLUSTER)


def test_a_snapshot_that_was_not_taken_is_named_with_those_that_were(lab: Lab, sleeper: Process) -> None:
    lab._update(nodes={"xen1": sleeper}, snapshots={"formed": Snapshot(boots={}, consoles={})})
    with pytest.raises(LabError, match=r"no snapshot 'fresh'(?s:.*)there are: formed"):
        lab.restore("fresh")
    assert sleeper.alive()


def test_a_snapshot_is_one_of_two_running_machines(lab: Lab, sleeper: Process) -> None:
    lab._update(nodes={"xen1": sleeper})
    with pytest.raises(LabError, match="xen2 is off"):
        lab.snapshot("formed")


def test_disks_are_swapped_while_both_servers_are_off(lab: Lab, sleeper: Process) -> None:
    for node in ("xen1", "xen2"):
        (lab.directory / f"{node}-backing.qcow2").write_text(node)
    lab._update(nodes={"xen1": sleeper})
    with pytest.raises(LabError, match="not off: xen1"):
        lab.swap_backing_disks()
    lab.kill()
    lab.swap_backing_disks()
    assert (lab.directory / "xen1-backing.qcow2").read_text() == "xen2"
    assert (lab.directory / "xen2-backing.qcow2").read_text() == "xen1"
