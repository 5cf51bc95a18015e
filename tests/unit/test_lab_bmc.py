"""The nodes' BMCs, asked by the real ipmitool: a real ipmi_sim each, and a `sleep` in place of each QEMU."""

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.model import Bmc, Cluster
from config.secrets import ensure
from lab import bmc, bmc_orders, bmc_relay, bmc_view, command, disks, frames
from lab.bmc_view import Mode
from lab.errors import LabError
from lab.frames import Datagram, Host
from lab.pair import Lab
from lab.process import SOURCES, Process
from lab.report import LabStatus
from lab.state import locked

pytestmark = pytest.mark.usefixtures("real_programs")

STAND_IN = """\
from lab.pair import Lab
from lab.process import Process


def power_on(self, nodes):
    for node in nodes:
        if (old := self.state().nodes.get(node.name)) is None or not old.alive():
            process = Process.spawn(["sleep", "300"], cwd=self.directory, log=self.directory / "sleep.log")
            self._update(nodes={**self.state().nodes, node.name: process})


Lab._power_on = power_on
"""
"""What Python reads at its start (sitecustomize, site(7)): the BMC's own programs start a `sleep` too."""


@dataclass
class Rig:
    """A lab whose BMCs run, and nothing else of it but what stands in for its nodes."""

    lab: Lab
    password: dict[str, str]
    python: str
    """PYTHONPATH of the BMC's own programs."""

    def start(self) -> None:
        bmc.start(self.lab.directory, self.lab.state(), lambda bmcs: self.lab._update(bmcs=bmcs))

    def ipmitool(
        self, *words: str, node: str = "xen1", port: int | None = None, suite: str = "3", retries: int = 3
    ) -> tuple[int, str]:
        """Exit code and output of `ipmitool chassis power WORD`, asked at ipmi_sim's own port."""
        port = port or self.lab.state().bmcs.ports[node]
        argv = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(port), "-U", "xenpair", "-E"]
        argv += ["-N", "1", "-R", str(retries), *(["-C", suite] if suite else []), "chassis", "power", *words]
        env = {"IPMI_PASSWORD": self.password[node], "PATH": os.environ["PATH"]}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def power(self, node: str = "xen1") -> str:
        code, output = self.ipmitool("status", node=node)
        assert code == 0, output
        return output.strip().removeprefix("Chassis Power is ")

    def machine(self, node: str = "xen1") -> Process:
        return self.lab.state().nodes[node]

    def power_program(self) -> Process:
        """lab.bmc_power for xen1, as the chassis program starts it."""
        argv = [sys.executable, "-m", "lab.bmc_power", "xen1"]
        log = self.lab.directory / "xen1.bmc.log"
        return Process.spawn(argv, cwd=self.lab.directory, log=log, env={"PYTHONPATH": self.python})

    def log(self, node: str = "xen1") -> str:
        return (self.lab.directory / f"{node}.bmc.log").read_text()


def eventually(what: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def off(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A lab that is down."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(STAND_IN)
    python = f"{tmp_path / 'python'}:{SOURCES}"
    monkeypatch.setattr(bmc, "SOURCES", python)
    monkeypatch.setattr(disks, "check", lambda *_: None)
    image = tmp_path / "image.qcow2"
    image.write_bytes(b"image")
    secrets = ensure(cluster, tmp_path / "secrets")
    lab = Lab.create(tmp_path / "lab", cluster, image, secrets_yaml=secrets.to_yaml())
    rig = Rig(lab, bmc.passwords(cluster, secrets), python)
    yield rig
    if lab.directory.exists():
        lab.down()


@pytest.fixture
def rig(off: Rig) -> Rig:
    """One whose nodes and BMCs run."""
    off.start()
    names = [node.name for node in off.lab.state().cluster.nodes]
    log = off.lab.directory / "sleep.log"
    off.lab._update(nodes={n: Process.spawn(["sleep", "300"], cwd=off.lab.directory, log=log) for n in names})
    return off


class TestPower:
    """What a BMC does to its node."""

    def test_the_status_is_what_the_machine_is(self, rig: Rig) -> None:
        assert rig.power() == "on"
        rig.lab.kill("xen1")
        assert (rig.power("xen1"), rig.power("xen2")) == ("off", "on")

    def test_power_off_pulls_the_plug_of_that_node_and_no_other(self, rig: Rig) -> None:
        machine = rig.machine()
        assert rig.ipmitool("off") == (0, "Chassis Power Control: Down/Off\n")
        eventually(lambda: rig.power() == "off")
        assert not machine.alive()
        assert rig.machine("xen2").alive()
        assert "off acknowledged" in rig.log()
        assert "off done" in rig.log()

    def test_a_node_that_is_off_is_switched_on_and_one_that_is_on_stays_as_it_is(self, rig: Rig) -> None:
        machine = rig.machine("xen2")
        rig.lab.kill("xen1")
        for node in ("xen1", "xen2"):
            assert rig.ipmitool("on", node=node) == (0, "Chassis Power Control: Up/On\n")
            eventually(lambda: not bmc_orders.waiting(rig.lab.directory, node))  # noqa: B023
        assert rig.power() == "on"
        assert rig.machine().alive()
        assert rig.machine("xen2") == machine
        assert machine.alive()

    @pytest.mark.parametrize("order", ["cycle", "reset"])
    def test_a_cycle_and_a_reset_end_in_another_machine_that_is_on(self, rig: Rig, order: str) -> None:
        machine = rig.machine()
        assert rig.ipmitool(order)[0] == 0
        eventually(lambda: rig.machine() != machine and rig.machine().alive())
        assert not machine.alive()
        eventually(lambda: rig.power() == "on")

    def test_a_reset_leaves_a_machine_off_that_is_off(self, rig: Rig) -> None:
        rig.lab.kill("xen1")
        assert rig.ipmitool("reset")[0] == 0
        eventually(lambda: "reset done" in rig.log())
        assert rig.power() == "off"

    def test_many_orders_in_a_row_are_carried_out_in_their_order(self, rig: Rig) -> None:
        first = rig.machine()
        for order in ("off", "on", "off", "on"):
            assert rig.ipmitool(order)[0] == 0
        eventually(lambda: rig.log().count("done") == 4)
        assert [line.split()[-2] for line in rig.log().splitlines() if "done" in line] == ["off", "on", "off", "on"]
        assert rig.power() == "on"
        assert rig.machine() != first
        assert not first.alive()

    def test_what_this_chassis_cannot_do_is_refused(self, rig: Rig) -> None:
        code, _ = rig.ipmitool("soft")
        assert code != 0
        assert rig.power() == "on"

    def test_a_node_that_is_off_keeps_its_bmc(self, rig: Rig) -> None:
        rig.lab.kill()
        assert (rig.power("xen1"), rig.power("xen2")) == ("off", "off")


class TestModes:
    """What can be wrong with a BMC."""

    def test_one_that_lies_acknowledges_a_power_off_and_its_status_tells_the_truth(self, rig: Rig) -> None:
        rig.lab.bmc("xen1", "lies")
        assert rig.ipmitool("off") == (0, "Chassis Power Control: Down/Off\n")
        assert "nothing done: this BMC lies" in rig.log()
        assert bmc_orders.waiting(rig.lab.directory, "xen1") == ()
        assert rig.power() == "on"
        rig.lab.kill("xen1")
        assert rig.power() == "off"
        rig.lab.bmc("xen1", "ok")
        assert rig.ipmitool("on")[0] == 0
        eventually(lambda: rig.machine().alive())

    def test_one_with_another_password_lets_nobody_in_until_it_is_ok_again(self, rig: Rig) -> None:
        rig.lab.bmc("xen1", "wrong-password")
        code, output = rig.ipmitool("status")
        assert code != 0
        assert "Unable to establish IPMI v2 / RMCP+ session" in output
        assert rig.power("xen2") == "on"
        rig.lab.bmc("xen1", "lies")
        assert rig.power() == "on"

    def test_a_mode_outlives_the_bmc_and_the_lab_s_being_down(self, rig: Rig) -> None:
        rig.lab.bmc("xen1", "wrong-password")
        rig.lab.down()
        rig.lab.bmc("xen2", "lies")
        rig.start()
        assert rig.ipmitool("status")[0] != 0
        assert [b.mode for b in bmc_view.read(rig.lab.directory)] == ["wrong-password", "lies"]

    def test_status_names_the_bmcs_that_are_not_ok(self, rig: Rig) -> None:
        rig.lab.kill()
        assert rig.lab.status().bmcs == ()
        rig.lab.bmc("xen1", "lies")
        rig.lab.bmc("xen2", "unreachable")
        rig.lab.state().bmcs.sims["xen2"].kill()
        assert rig.lab.status().bmcs == ("xen1: lies", "xen2: unreachable")
        rig.lab._update(switch=rig.lab.state().bmcs.relay)
        assert rig.lab.status().bmcs == ("xen1: lies", "xen2: not running")
        status = LabStatus(accelerator=None, accelerator_reason="", cut=(), bmcs=("xen1: lies",), nodes=())
        assert "BMCs: xen1: lies" in str(status.table().caption)

    def test_a_node_or_mode_that_is_not_there_is_a_clear_error(self, rig: Rig) -> None:
        with pytest.raises(LabError, match="no node 'xen3'"):
            rig.lab.bmc("xen3", "ok")
        with pytest.raises(LabError, match=r"has no mode 'broken'(?s:.*)ok, unreachable, lies, wrong-password"):
            command.bmc_mode("broken")
        assert command.bmc_mode("lies") == "lies"
        nodes = tuple(node.model_copy(update={"bmc": None}) for node in rig.lab.state().cluster.nodes)
        rig.lab._update(cluster=rig.lab.state().cluster.model_copy(update={"nodes": nodes}))
        with pytest.raises(LabError, match="xen1 has no BMC in the lab's config"):
            rig.lab.bmc("xen1", "ok")


class TestLife:
    """When BMCs run, and what they leave behind."""

    def test_what_runs_is_not_started_again_and_what_ended_is(self, rig: Rig) -> None:
        before = rig.lab.state().bmcs
        rig.start()
        assert rig.lab.state().bmcs == before
        before.sims["xen1"].kill()
        assert before.relay is not None
        before.relay.kill()
        rig.start()
        after = rig.lab.state().bmcs
        assert after.sims["xen2"] == before.sims["xen2"]
        assert after.relay != before.relay
        assert rig.power() == "on"

    def test_a_lab_that_goes_down_ends_them_and_drops_their_orders(self, rig: Rig) -> None:
        bmcs = rig.lab.state().bmcs
        rig.lab.kill("xen1")
        bmc_orders.add(rig.lab.directory, "xen1", "on")
        rig.lab.down()
        assert bmcs.relay is not None
        assert not any(process.alive() for process in (bmcs.relay, *bmcs.sims.values()))
        assert rig.power_program().wait(20)
        assert rig.lab.state().nodes == {}

    def test_an_order_whose_execution_waited_for_the_lab_to_go_down_starts_nothing(self, rig: Rig) -> None:
        rig.lab.kill("xen1")
        bmc_orders.add(rig.lab.directory, "xen1", "on")
        with locked(rig.lab.directory):
            waiting = rig.power_program()
            assert not waiting.wait(1)
            # What down() begins with.
            rig.lab._update(bmcs=bmc.stop(rig.lab.directory, rig.lab.state()))
        assert waiting.wait(20)
        assert not rig.machine().alive()

    def test_a_reset_leaves_nothing(self, rig: Rig) -> None:
        sims = rig.lab.state().bmcs.sims
        rig.ipmitool("off")
        rig.lab.reset()
        assert not rig.lab.directory.exists()
        assert not any(process.alive() for process in sims.values())

    def test_a_cluster_without_bmcs_starts_none(self, off: Rig) -> None:
        nodes = tuple(node.model_copy(update={"bmc": None}) for node in off.lab.state().cluster.nodes)
        off.lab._update(cluster=off.lab.state().cluster.model_copy(update={"nodes": nodes}))
        off.start()
        assert off.lab.state().bmcs == type(off.lab.state().bmcs)()
        assert off.lab.status().bmcs == ()

    def test_the_password_is_in_private_files_only(self, rig: Rig) -> None:
        holding = [f for f in rig.lab.directory.rglob("*") if f.is_file() and has(f, rig.password["xen1"])]
        assert {f.name for f in holding} == {"bmc.passwords", "xen1.bmc.conf"}
        assert all(f.stat().st_mode & 0o777 == 0o600 for f in holding)
        argv = Path(f"/proc/{rig.lab.state().bmcs.sims['xen1'].pid}/cmdline").read_text()
        assert "ipmi_sim" in argv
        assert rig.password["xen1"] not in argv

    def test_a_lab_from_before_there_were_bmcs_is_a_clear_error(self, off: Rig) -> None:
        (off.lab.directory / bmc.PASSWORDS).unlink()
        with pytest.raises(LabError, match="was made before labs had BMCs"):
            off.start()

    def test_one_that_does_not_start_is_a_clear_error(self, off: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bmc, "SIM_COMMANDS", "nonsense\n")
        monkeypatch.setattr(bmc, "_STARTUP", 0.2)
        monkeypatch.setattr(bmc, "_answers", lambda _: False)
        with pytest.raises(LabError, match=r"the BMC of xen1 \(ipmi_sim\) did not start"):
            off.start()


def has(file: Path, text: str) -> bool:
    return text.encode() in file.read_bytes()


def test_a_node_counts_as_on_while_an_order_waits_that_may_start_it(rig: Rig) -> None:
    rig.lab.kill("xen1")
    bmc_orders.add(rig.lab.directory, "xen1", "off")
    assert rig.power() == "on"
    rig.lab.obey("xen1")
    assert rig.power() == "off"


def test_an_order_that_fails_is_logged_and_the_next_is_carried_out(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object, nodes: object) -> None:
        raise LabError("no memory")

    monkeypatch.setattr(Lab, "_power_on", broken)
    for order in ("on", "off"):
        bmc_orders.add(rig.lab.directory, "xen1", order)
    rig.lab.obey("xen1")
    assert "on failed: no memory" in caplog.text
    assert not rig.machine().alive()
    assert bmc_orders.waiting(rig.lab.directory, "xen1") == ()


def test_orders_that_nobody_takes_are_refused(off: Rig) -> None:
    with pytest.raises(FileNotFoundError):
        bmc_orders.add(off.lab.directory, "xen1", "on")
    assert bmc_orders.waiting(off.lab.directory, "xen1") == ()
    off.lab.obey("xen1")


class TestCheck:
    """BMCs that a config may describe and the lab cannot have."""

    def cluster(self, cluster: Cluster, **changes: str) -> Cluster:
        first, second = cluster.nodes
        assert first.bmc is not None
        changed = Bmc.model_validate(first.bmc.model_dump(mode="json") | changes | {"port": "623"})
        return cluster.model_copy(update={"nodes": (first.model_copy(update={"bmc": changed}), second)})

    def test_the_example_s_are_possible(self, cluster: Cluster) -> None:
        bmc.check(cluster, {"xen1": "x" * 19, "xen2": 'quo"te$'})

    @pytest.mark.parametrize("address", ["10.0.0.1", "192.168.132.255", "192.168.132.0"])
    def test_one_on_another_network_is_refused(self, cluster: Cluster, address: str) -> None:
        with pytest.raises(LabError, match=r"on the guest network 192.168.132.0/24 only"):
            bmc.check(self.cluster(cluster, address=address), {})

    @pytest.mark.parametrize(("user", "password"), [("u" * 16, "x"), ("u", "x" * 20), ("u", "two words"), ("u v", "x")])
    def test_what_ipmi_sim_cannot_hold_is_refused_and_not_shown(
        self, cluster: Cluster, user: str, password: str
    ) -> None:
        with pytest.raises(LabError, match="ipmi_sim plays the BMC") as caught:
            bmc.check(self.cluster(cluster, user=user), {"xen1": password})
        assert password == "x" or password not in str(caught.value)

    def test_a_host_without_ipmi_sim_is_told_the_package(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lab.bmc.shutil.which", lambda _: None)
        with pytest.raises(LabError, match=r"apt-get install openipmi"):
            bmc.check(cluster, {})
        bare = tuple(node.model_copy(update={"bmc": None}) for node in cluster.nodes)
        bmc.check(cluster.model_copy(update={"nodes": bare}), {})


@pytest.mark.parametrize(("user", "password"), [("fifteen-letters", "q\"$'\\#{19-bytes!"), ("u", "p")])
def test_a_real_password_is_taken_by_ipmi_sim_as_it_is(off: Rig, user: str, password: str) -> None:
    bmc.adopt(off.lab.directory, {"xen1": password, "xen2": password})
    cluster = TestCheck().cluster(off.lab.state().cluster, user=user)
    off.lab._update(cluster=cluster)
    off.start()
    port = str(off.lab.state().bmcs.ports["xen1"])
    argv = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", port, "-U", user, "-E", "mc", "info"]
    env = {"IPMI_PASSWORD": password, "PATH": os.environ["PATH"]}
    subprocess.run(argv, env=env, check=True, capture_output=True, timeout=60)


class NodeStack:
    """A node's network stack: what ipmitool sends to a port of 127.0.0.1, as frames on the relay's cable."""

    NODE = Host(bytes.fromhex("525400132002"), IPv4Address("192.168.132.2"))

    def __init__(self, directory: Path, address: str) -> None:
        self.directory, self.address = directory, IPv4Address(address)
        self.mac = b""
        self.cable = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.cable.bind(str(directory / bmc_relay.SWITCH_END))
        self.outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outside.bind(("127.0.0.1", 0))
        self.port: int = self.outside.getsockname()[1]
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def send(self, frame: bytes) -> None:
        self.cable.sendto(frame, str(self.directory / bmc_relay.RELAY_END))

    def run(self) -> None:
        client = ("", 0)
        waiting = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.cable, selectors.EVENT_READ)
            selector.register(self.outside, selectors.EVENT_READ)
            while not self.stop.is_set():
                for key, _ in selector.select(0.1):
                    if key.fileobj is self.outside:
                        waiting, client = self.outside.recvfrom(2048)
                        if not self.mac:
                            self.send(frames.arp_request(self.NODE, self.address))
                            continue
                    else:
                        frame = self.cable.recv(65536)
                        said = frames.parse(frame)
                        if frame[12:14] == b"\x08\x06":
                            self.mac = frame[6:12]
                        elif isinstance(said, Datagram):
                            assert (said.sender.mac, said.receiver) == (self.mac, self.NODE)
                            self.outside.sendto(said.payload, client)
                    if waiting and self.mac:
                        owner = Host(self.mac, self.address)
                        self.send(frames.datagram(Datagram(self.NODE, owner, client[1], 623, waiting)))
                        waiting = b""

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.cable.close()
        self.outside.close()


@pytest.fixture
def stack(rig: Rig) -> Iterator[NodeStack]:
    stack = NodeStack(rig.lab.directory, "192.168.132.241")
    yield stack
    stack.close()


def test_the_whole_way_from_a_node_s_network_to_its_peer_s_power(rig: Rig, stack: NodeStack) -> None:
    machine, began = rig.machine(), time.monotonic()
    code, output = rig.ipmitool("status", port=stack.port, suite="")
    assert (code, output) == (0, "Chassis Power is on\n")
    assert time.monotonic() - began < 8, "ipmitool waited for the cipher suites"
    assert stack.mac == frames.mac_of(stack.address)
    assert rig.ipmitool("off", port=stack.port, suite="")[0] == 0
    eventually(lambda: "off" in rig.ipmitool("status", port=stack.port, suite="")[1])
    assert not machine.alive()


def test_an_unreachable_bmc_cannot_be_asked_and_works_on_when_it_is_back(rig: Rig, stack: NodeStack) -> None:
    modes: tuple[Mode, Mode] = ("unreachable", "ok")
    rig.lab.bmc("xen1", modes[0])
    code, output = rig.ipmitool("off", port=stack.port, retries=1)
    assert code != 0
    assert "Unable to establish IPMI v2 / RMCP+ session" in output
    rig.lab.bmc("xen1", modes[1])
    assert rig.ipmitool("status", port=stack.port) == (0, "Chassis Power is on\n")
