"""When the nodes' BMCs run, what they can be, and the whole way from ipmitool on a node to its peer's power."""

import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.model import Bmc, Cluster
from lab import bmc, bmc_orders, bmc_relay, frames
from lab.errors import LabError
from lab.frames import Datagram, Host
from lab.state import locked
from tests.unit.bmc_rig import Rig, eventually


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
        monkeypatch.setattr("images.preflight.shutil.which", lambda *_, **__: None)
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
    rig.lab.bmc("xen1", "unreachable")
    code, output = rig.ipmitool("off", port=stack.port, retries=1)
    assert code != 0
    assert "Unable to establish IPMI v2 / RMCP+ session" in output
    rig.lab.bmc("xen1", "ok")
    assert rig.ipmitool("status", port=stack.port) == (0, "Chassis Power is on\n")
