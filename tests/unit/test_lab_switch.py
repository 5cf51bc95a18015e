"""The lab's Ethernet switch."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.switch import Cable, Fate, Fault, Faults, Forwarding, Switch

G1, G2, GH = Cable("guest", "xen1"), Cable("guest", "xen2"), Cable("guest", "HOST")
C1, C2 = Cable("cluster", "xen1"), Cable("cluster", "xen2")
ALL = (G1, G2, GH, C1, C2)
MAC = {cable: bytes([0x52, 0x54, 0, 0, 0, number]) for number, cable in enumerate(ALL)}
EVERYBODY = b"\xff" * 6


def frame(to: bytes, sender: bytes) -> bytes:
    return to + sender + b"\x08\x00" + b"payload".ljust(46, b"\0")


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


class Cards:
    """The network cards at the ends of the cables."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sockets = {cable: self.plug(cable) for cable in ALL}

    def plug(self, cable: Cable) -> socket.socket:
        path = self.directory / cable.nic_end
        path.unlink(missing_ok=True)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(str(path))
        s.setblocking(False)
        return s

    def send(self, cable: Cable, data: bytes) -> None:
        self.sockets[cable].sendto(data, str(self.directory / cable.switch_end))

    def received(self, cable: Cable) -> list[bytes]:
        frames = []
        while True:
            try:
                frames.append(self.sockets[cable].recv(65536))
            except BlockingIOError:
                return frames


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[Switch, Cards]]:
    switch, cards = Switch(ALL, tmp_path, Fate(dice=dice(1))), Cards(tmp_path)
    yield switch, cards
    for s in cards.sockets.values():
        s.close()


def settle(switch: Switch) -> None:
    for _ in range(10):
        switch.step(0)


def test_a_broadcast_reaches_its_own_segment_only_and_not_its_sender(lan: tuple[Switch, Cards]) -> None:
    switch, cards = lan
    cards.send(G1, data := frame(EVERYBODY, MAC[G1]))
    settle(switch)
    assert {cable for cable in ALL if cards.received(cable) == [data]} == {G2, GH}


def test_a_learned_address_gets_its_frames_alone(lan: tuple[Switch, Cards]) -> None:
    switch, cards = lan
    cards.send(G2, frame(EVERYBODY, MAC[G2]))
    settle(switch)
    cards.received(G1), cards.received(GH)
    cards.send(G1, frame(MAC[G2], MAC[G1]))
    settle(switch)
    assert [len(cards.received(cable)) for cable in (G1, G2, GH)] == [0, 1, 0]


def test_the_same_address_on_two_segments_is_two_addresses() -> None:
    forwarding = Forwarding(ALL)
    forwarding.outputs(frame(EVERYBODY, MAC[G1]), C1)
    assert forwarding.outputs(frame(MAC[G1], MAC[G2]), G2) == [G1, GH]


def test_a_frame_back_to_where_it_came_from_and_a_runt_go_nowhere() -> None:
    forwarding = Forwarding(ALL)
    forwarding.outputs(frame(EVERYBODY, MAC[G1]), G1)
    assert forwarding.outputs(frame(MAC[G1], MAC[G2]), G1) == []
    assert forwarding.outputs(b"short", G1) == []


def test_a_cut_cable_passes_nothing_either_way_and_heals(lan: tuple[Switch, Cards]) -> None:
    switch, cards = lan
    cut = Faults(faults=(Fault(segment="cluster", node="xen1"),))
    assert switch.control(cut.model_dump_json().encode()).error == ""
    cards.send(C1, frame(EVERYBODY, MAC[C1]))
    cards.send(C2, frame(EVERYBODY, MAC[C2]))
    cards.send(G1, frame(EVERYBODY, MAC[G1]))
    settle(switch)
    assert [len(cards.received(cable)) for cable in (C1, C2, G2)] == [0, 0, 1]
    switch.control(Faults().model_dump_json().encode())
    cards.send(C1, frame(EVERYBODY, MAC[C1]))
    settle(switch)
    assert len(cards.received(C2)) == 1
    assert switch.control(b"\n").lost == 2


def test_a_one_way_cut_passes_the_other_way(lan: tuple[Switch, Cards]) -> None:
    switch, cards = lan
    switch.fate.faults = (Fault(segment="cluster", node="xen1", direction="to-node"),)
    cards.send(C1, frame(EVERYBODY, MAC[C1]))
    cards.send(C2, frame(EVERYBODY, MAC[C2]))
    settle(switch)
    assert [len(cards.received(cable)) for cable in (C1, C2)] == [0, 1]


def test_loss_takes_its_part_of_the_frames_and_the_same_dice_take_the_same() -> None:
    def passed(seed: int) -> list[bool]:
        fate = Fate((Fault(segment="cluster", node="xen1", loss=0.2),), dice(seed))
        return [fate.passes(C1, "from-node") for _ in range(1000)]

    assert 750 < sum(passed(7)) < 850
    assert passed(7) == passed(7)


def test_only_everything_lost_both_ways_takes_the_carrier() -> None:
    assert Fault(segment="guest", node="xen1").cut
    assert not Fault(segment="guest", node="xen1", direction="to-node").cut
    assert not Fault(segment="guest", node="xen1", loss=0.9).cut


def test_a_burst_longer_than_the_kernels_queue_arrives_whole_and_in_order(lan: tuple[Switch, Cards]) -> None:
    switch, cards = lan
    frames = [frame(EVERYBODY, MAC[C1]) + bytes([number]) for number in range(200)]
    for data in frames:
        switch.forward(data, C1)
    arrived: list[bytes] = []
    for _ in range(200):
        arrived += cards.received(C2)
        switch.step(0)
    assert arrived == frames


def test_a_card_that_is_gone_loses_frames_and_gets_them_again_when_it_is_back(lan: tuple[Switch, Cards]) -> None:
    switch, cards = lan
    switch.forward(frame(EVERYBODY, MAC[C1]), C1)
    cards.sockets[C2].close()
    switch.forward(frame(EVERYBODY, MAC[C1]), C1)
    (cards.directory / C2.nic_end).unlink()
    switch.forward(frame(EVERYBODY, MAC[C1]), C1)
    cards.sockets[C2] = cards.plug(C2)
    switch.forward(frame(EVERYBODY, MAC[C1]), C1)
    assert len(cards.received(C2)) == 1
    cards.send(C2, frame(EVERYBODY, MAC[C2]))
    settle(switch)
    assert len(cards.received(C1)) == 1


def test_nonsense_on_the_control_socket_is_answered_and_changes_nothing(lan: tuple[Switch, Cards]) -> None:
    switch, _ = lan
    switch.fate.faults = (Fault(segment="cluster", node="xen1"),)
    assert switch.control(b'{"faults": [{"segment": "moon", "node": "xen1"}]}\n').error
    assert switch.fate.faults == (Fault(segment="cluster", node="xen1"),)


@pytest.mark.parametrize("name", ["cluster", "cluster-", "moon-xen1", ""])
def test_a_cable_needs_a_known_segment_and_a_node(name: str) -> None:
    with pytest.raises(ValueError, match="is not SEGMENT-NODE"):
        Cable.parse(name)
