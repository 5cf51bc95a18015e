"""The BMCs' relay, between a fake switch and fake ipmi_sims."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.model import Bmc, Cluster
from lab import bmc_relay, frames, network
from lab.bmc_relay import Relay, for_ipmi_sim
from lab.bmc_view import Mode
from lab.frames import Datagram, Host, Ping
from lab.state import Bmcs, State, save

NODE = Host(bytes.fromhex("525400132001"), IPv4Address("192.168.132.1"))
PEER = Host(bytes.fromhex("525400132002"), IPv4Address("192.168.132.2"))
STRANGER = IPv4Address("192.168.132.9")


def bmc_host(last: int) -> Host:
    address = IPv4Address(f"192.168.132.{last}")
    return Host(frames.mac_of(address), address)


BMC1, BMC2 = bmc_host(241), bmc_host(242)


class Lan:
    """The relay, the switch's end of its cable, and a socket in place of each node's ipmi_sim."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        self.directory, self.cluster = directory, cluster
        self.switch = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.switch.bind(str(directory / bmc_relay.SWITCH_END))
        self.switch.setblocking(False)
        self.sims = {name: self.sim() for name in ("xen1", "xen2")}
        self.save()
        self.relay = Relay(directory)

    def sim(self) -> socket.socket:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        s.settimeout(2)
        return s

    def save(self, **modes: Mode) -> None:
        ports = {name: s.getsockname()[1] for name, s in self.sims.items()}
        bmcs = Bmcs(ports=ports, modes=modes)
        save(self.directory, State(cluster=self.cluster, firmware="bios", seeded=False, bmcs=bmcs))

    def send(self, frame: bytes) -> None:
        self.switch.sendto(frame, str(self.directory / bmc_relay.RELAY_END))
        self.relay.step(2)

    def ask(self, sender: Host, port: int, receiver: Host, payload: bytes, to: int = 623) -> None:
        self.send(frames.datagram(Datagram(sender, receiver, port, to, payload)))

    def heard(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.switch.recv(65536))
            except BlockingIOError:
                return found

    def answer(self, sim: str, payload: bytes, to: tuple[str, int]) -> list[bytes]:
        self.sims[sim].sendto(payload, to)
        self.relay.step(2)
        return self.heard()

    def close(self) -> None:
        self.relay.close()
        for s in (self.switch, *self.sims.values()):
            s.close()


@pytest.fixture
def lan(tmp_path: Path, cluster: Cluster) -> Iterator[Lan]:
    lan = Lan(tmp_path, cluster)
    yield lan
    lan.close()


def test_the_cable_is_the_switch_s(cluster: Cluster) -> None:
    assert network.BMCS in network.cables(cluster)
    assert (network.BMCS.switch_end, network.BMCS.nic_end) == (bmc_relay.SWITCH_END, bmc_relay.RELAY_END)
    without = tuple(node.model_copy(update={"bmc": None}) for node in cluster.nodes)
    assert network.BMCS not in network.cables(cluster.model_copy(update={"nodes": without}))


@pytest.mark.parametrize("bmc", [BMC1, BMC2])
def test_it_answers_for_the_bmcs_addresses_and_no_other(lan: Lan, bmc: Host) -> None:
    lan.send(frames.arp_request(NODE, bmc.address))
    assert lan.heard() == [frames.arp_reply(frames.WhoHas(NODE, bmc.address), bmc)]
    lan.send(frames.arp_request(NODE, STRANGER))
    lan.send(frames.arp_request(NODE, PEER.address))
    assert lan.heard() == []


def test_a_ping_is_answered(lan: Lan) -> None:
    ping = Ping(NODE, BMC1, b"\0\1\0\2data")
    lan.send(frames.echo_request(ping))
    assert lan.heard() == [frames.echo_reply(ping)]


def test_a_datagram_reaches_its_own_bmc_and_the_answer_comes_back(lan: Lan) -> None:
    lan.ask(NODE, 40001, BMC2, b"question")
    payload, client = lan.sims["xen2"].recvfrom(512)
    assert payload == b"question"
    reply = Datagram(BMC2, NODE, 623, 40001, b"answer")
    assert lan.answer("xen2", b"answer", client) == [frames.datagram(reply)]


def test_each_port_of_each_node_is_a_client_of_its_own(lan: Lan) -> None:
    clients = set()
    for sender, port in ((NODE, 40001), (NODE, 40002), (PEER, 40001), (NODE, 40001)):
        lan.ask(sender, port, BMC1, b"x")
        clients.add(lan.sims["xen1"].recvfrom(512)[1])
    assert len(clients) == 3


def test_what_is_not_for_a_bmc_reaches_none(lan: Lan) -> None:
    lan.ask(NODE, 40001, BMC1, b"x", to=22)
    lan.ask(NODE, 40001, Host(PEER.mac, BMC1.address), b"x")
    lan.ask(NODE, 40001, PEER, b"x")
    lan.send(b"runt")
    lan.sims["xen1"].settimeout(0.05)
    with pytest.raises(TimeoutError):
        lan.sims["xen1"].recv(512)
    assert lan.heard() == []


def test_an_unreachable_bmc_hears_and_says_nothing_at_once_and_the_other_works(lan: Lan) -> None:
    lan.ask(NODE, 40001, BMC1, b"question")
    client = lan.sims["xen1"].recvfrom(512)[1]
    lan.save(xen1="unreachable")
    assert lan.answer("xen1", b"in flight", client) == []
    lan.send(frames.arp_request(NODE, BMC1.address))
    lan.send(frames.echo_request(Ping(NODE, BMC1, b"\0\1\0\2")))
    lan.ask(NODE, 40001, BMC1, b"question")
    lan.sims["xen1"].settimeout(0.05)
    with pytest.raises(TimeoutError):
        lan.sims["xen1"].recv(512)
    assert lan.heard() == []
    lan.ask(NODE, 40001, BMC2, b"question")
    assert lan.sims["xen2"].recv(512) == b"question"
    lan.save()
    lan.ask(NODE, 40001, BMC1, b"again")
    assert lan.sims["xen1"].recv(512) == b"again"


@pytest.mark.parametrize("mode", ["lies", "wrong-password"])
def test_the_other_modes_are_not_the_relay_s(lan: Lan, mode: Mode) -> None:
    lan.save(xen1=mode)
    lan.ask(NODE, 40001, BMC1, b"question")
    assert lan.sims["xen1"].recv(512) == b"question"


def test_an_ipmi_sim_that_was_started_again_is_found_at_its_new_port(lan: Lan) -> None:
    lan.ask(NODE, 40001, BMC1, b"one")
    lan.sims["xen1"].close()
    lan.ask(NODE, 40001, BMC1, b"lost")
    lan.sims["xen1"] = lan.sim()
    lan.save()
    lan.relay.step(0)
    lan.ask(NODE, 40001, BMC1, b"two")
    assert lan.sims["xen1"].recv(512) == b"two"


def test_two_bmcs_behind_one_address_are_told_apart_by_their_ports(lan: Lan) -> None:
    first, second = lan.cluster.nodes
    shared = Bmc.model_validate({"address": str(BMC1.address), "port": "624", "user": "u", "password": "secret:b"})
    nodes = (first, second.model_copy(update={"bmc": shared}))
    lan.cluster = lan.cluster.model_copy(update={"nodes": nodes})
    lan.save(xen1="unreachable")
    lan.ask(NODE, 40001, BMC1, b"question", to=624)
    assert lan.sims["xen2"].recv(512) == b"question"


def test_the_longest_silent_conversation_makes_room_for_a_new_one(lan: Lan) -> None:
    def client(port: int) -> tuple[str, int]:
        lan.ask(NODE, port, BMC1, b"x")
        found: tuple[str, int] = lan.sims["xen1"].recvfrom(512)[1]
        return found

    first, second = client(1), client(2)
    for port in range(3, bmc_relay.CONVERSATIONS + 1):
        client(port)
    assert client(1) == first
    client(bmc_relay.CONVERSATIONS + 1)
    assert client(1) == first
    assert client(2) != second


def test_a_lab_that_is_gone_has_no_bmcs(lan: Lan) -> None:
    (lan.directory / "state.json").unlink()
    lan.send(frames.arp_request(NODE, BMC1.address))
    assert lan.heard() == []


def test_a_message_outside_a_session_is_put_into_the_format_that_ipmi_sim_reads() -> None:
    # Get Channel Cipher Suites, as ipmitool 1.8.19 sends it.
    asked = bytes.fromhex("0600ff07 06 00 00000000 00000000 0a00 2018c88104540e008099")
    assert for_ipmi_sim(asked) == bytes.fromhex("0600ff07 00 00000000 00000000 0a 2018c88104540e008099")


@pytest.mark.parametrize(
    "payload",
    [
        "0600ff06000011be80000000",  # presence ping
        "0600ff07000000000000000000092018c88100388e04b5",  # IPMI 1.5
        "0600ff0706100000000000000000200000000000a4a3a2a0",  # RMCP+ open session
        "0600ff0706c082000000080000002000a3b81791",  # within a session
        "0600ff0706",
        "",
    ],
)
def test_everything_else_passes_as_it_is(payload: str) -> None:
    assert for_ipmi_sim(bytes.fromhex(payload)) == bytes.fromhex(payload)
