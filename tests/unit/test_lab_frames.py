"""Ethernet frames: what is understood, what is said, and what is dropped."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import frames
from lab.frames import Datagram, Host, Ping, WhoHas

NODE = Host(bytes.fromhex("525400132001"), IPv4Address("192.168.132.1"))
BMC = Host(bytes.fromhex("0200c0a884f1"), IPv4Address("192.168.132.241"))

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
hosts = st.builds(Host, st.binary(min_size=6, max_size=6), addresses)
ports = st.integers(0, 65535)


def datagram(payload: bytes = b"hello") -> Datagram:
    return Datagram(NODE, BMC, 40000, 623, payload)


def test_a_question_for_an_address_is_understood_as_linux_asks_it() -> None:
    frame = bytes.fromhex(
        "ffffffffffff 525400132001 0806 0001 0800 06 04 0001 525400132001 c0a88401 000000000000 c0a884f1"
    )
    assert frames.parse(frame) == WhoHas(NODE, BMC.address)
    assert frames.arp_request(NODE, BMC.address)[: len(frame)] == frame


def test_the_answer_goes_to_the_asker_alone_and_names_the_owner() -> None:
    reply = frames.arp_reply(WhoHas(NODE, BMC.address), BMC)
    assert reply.rstrip(b"\0") == bytes.fromhex(
        "525400132001 0200c0a884f1 0806 0001 0800 06 04 0002 0200c0a884f1 c0a884f1 525400132001 c0a88401"
    )
    assert frames.parse(reply) is None


def test_a_datagram_has_the_bytes_that_another_stack_would_give_it() -> None:
    # Sums by hand: RFC 791 and RFC 768 over these very fields.
    assert frames.datagram(datagram(b"\x01\x02")).rstrip(b"\0") == bytes.fromhex(
        "0200c0a884f1 525400132001 0800 4500001e000040004011b08b c0a88401 c0a884f1 9c40026f000ad5e4 0102"
    )


@given(st.builds(Datagram, hosts, hosts, ports, ports, st.binary(max_size=1500)))
def test_every_datagram_survives_the_way_through_a_frame(sent: Datagram) -> None:
    frame = frames.datagram(sent)
    assert frames.parse(frame) == sent
    assert len(frame) >= 60


@given(st.builds(Ping, hosts, hosts, st.binary(min_size=4, max_size=200)))
def test_a_ping_is_answered_with_what_it_carried(ping: Ping) -> None:
    assert frames.parse(frames.echo_request(ping)) == ping
    reply = frames.echo_reply(ping)
    assert reply[:12] == ping.sender.mac + ping.receiver.mac
    assert reply[26:34] == ping.receiver.address.packed + ping.sender.address.packed
    assert reply[34:36] == b"\0\0"
    assert reply[38 : 38 + len(ping.rest)] == ping.rest
    assert frames.checksum(reply[34 : 38 + len(ping.rest)]) == 0
    assert frames.parse(reply) is None


@given(st.integers(0, len(frames.datagram(datagram())) - 1), st.integers(1, 255))
def test_one_wrong_byte_is_never_taken_for_what_was_sent(place: int, change: int) -> None:
    frame = bytearray(frames.datagram(datagram()))
    frame[place] ^= change
    said = frames.parse(bytes(frame))
    length = 14 + 20 + 8 + len(b"hello")
    if place < 12:
        assert isinstance(said, Datagram)
        assert (said.sender.mac, said.receiver.mac) == (bytes(frame[6:12]), bytes(frame[:6]))
    elif place >= length:
        assert said == datagram()
    else:
        assert said is None


@given(st.binary(max_size=200))
def test_noise_is_dropped(noise: bytes) -> None:
    frames.parse(noise)
    frames.parse(b"\xff" * 12 + b"\x08\x00" + noise)
    frames.parse(b"\xff" * 12 + b"\x08\x06" + noise)


@pytest.mark.parametrize("size", range(47))
def test_a_frame_that_was_cut_off_is_dropped(size: int) -> None:
    assert frames.parse(frames.datagram(datagram())[:size]) is None


@pytest.mark.parametrize("fragment", ["2000", "0001", "6000"])
def test_a_fragment_is_dropped(fragment: str) -> None:
    frame = frames.datagram(datagram())
    header = frame[14:20] + bytes.fromhex(fragment) + frame[22:24] + b"\0\0" + frame[26:34]
    header = header[:10] + frames.checksum(header).to_bytes(2, "big") + header[12:]
    assert frames.parse(frame[:14] + header + frame[34:]) is None


def test_options_in_the_header_are_skipped() -> None:
    frame = frames.datagram(datagram())
    header = b"\x46" + frame[15:16] + (24 + 13).to_bytes(2, "big") + frame[18:24] + b"\0\0" + frame[26:34]
    header += bytes.fromhex("01010101")
    header = header[:10] + frames.checksum(header).to_bytes(2, "big") + header[12:]
    assert frames.parse(frame[:14] + header + frame[34:]) == datagram()


def test_a_datagram_without_a_checksum_is_taken() -> None:
    frame = frames.datagram(datagram())
    assert frames.parse(frame[:40] + b"\0\0" + frame[42:]) == datagram()


def test_the_checksum_is_the_one_of_rfc_1071() -> None:
    assert frames.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2
    assert frames.checksum(b"\x01") == 0xFEFF


def test_a_made_up_mac_is_one_card_s_and_no_maker_s() -> None:
    mac = frames.mac_of(BMC.address)
    assert mac == BMC.mac
    assert mac[0] & 3 == 2
