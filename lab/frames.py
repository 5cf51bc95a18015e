"""Ethernet frames in bytes: what a host with one IPv4 address must understand and say. Pure.

Only what the lab's BMCs need: ARP (RFC 826), IPv4 without fragments (RFC 791), UDP (RFC 768), ping (RFC 792). A frame
that is broken, or of another kind, is nothing: a host drops those too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

BROADCAST = b"\xff" * 6

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_ECHO = struct.Struct("!BBH")

# IANA, "IEEE 802 Numbers" and "Protocol Numbers".
_TYPE_IPV4, _TYPE_ARP = 0x0800, 0x0806
_ICMP, _UDP_PROTOCOL = 1, 17
_ETHERNET_ARP = (1, _TYPE_IPV4, 6, 4)
_REQUEST, _REPLY = 1, 2
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_DO_NOT_FRAGMENT = 0x4000
_MINIMUM = 60
"""Bytes of the shortest frame: minFrameSize of IEEE 802.3 (4.4.2) without the 4 of the checksum."""


@dataclass(frozen=True)
class Host:
    """One end of a conversation."""

    mac: bytes
    address: IPv4Address


@dataclass(frozen=True)
class WhoHas:
    """An ARP request."""

    sender: Host
    target: IPv4Address


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet."""

    sender: Host
    receiver: Host


@dataclass(frozen=True)
class Datagram(Packet):
    """A UDP datagram."""

    source: int
    """Port."""
    destination: int
    """Port."""
    payload: bytes


@dataclass(frozen=True)
class Ping(Packet):
    """An ICMP echo request."""

    rest: bytes
    """Identifier, sequence number and data, which the reply repeats."""


def mac_of(address: IPv4Address) -> bytes:
    """A MAC for the host of that address, the same every time. Its first byte, 2, says: one card, and no maker's."""
    return b"\x02\x00" + address.packed


def parse(frame: bytes) -> WhoHas | Datagram | Ping | None:
    """What a frame says, or None."""
    try:
        receiver, sender, kind = _ETHERNET.unpack_from(frame)
        rest = frame[_ETHERNET.size :]
        if kind == _TYPE_ARP:
            return _parse_arp(rest)
        return _parse_ipv4(rest, sender, receiver) if kind == _TYPE_IPV4 else None
    except struct.error:
        return None


def arp_reply(question: WhoHas, owner: Host) -> bytes:
    """The owner's answer: the address that was asked for is at this MAC."""
    asker = question.sender
    body = _ARP.pack(*_ETHERNET_ARP, _REPLY, owner.mac, owner.address.packed, asker.mac, asker.address.packed)
    return _frame(owner.mac, asker.mac, _TYPE_ARP, body)


def arp_request(asker: Host, target: IPv4Address) -> bytes:
    """A question to everybody: at which MAC is that address?"""
    body = _ARP.pack(*_ETHERNET_ARP, _REQUEST, asker.mac, asker.address.packed, bytes(6), target.packed)
    return _frame(asker.mac, BROADCAST, _TYPE_ARP, body)


def datagram(sent: Datagram) -> bytes:
    """The frame of a UDP datagram."""
    length = _UDP.size + len(sent.payload)
    header = _UDP.pack(sent.source, sent.destination, length, 0)
    # 0 would mean "no checksum"; the one's complement has a second zero for that case.
    sum_ = checksum(_pseudo_header(sent, length) + header + sent.payload) or 0xFFFF
    return _ipv4(sent, _UDP_PROTOCOL, _UDP.pack(sent.source, sent.destination, length, sum_) + sent.payload)


def echo_reply(ping: Ping) -> bytes:
    """The receiver's answer to a ping."""
    return _echo(_ECHO_REPLY, Ping(ping.receiver, ping.sender, ping.rest))


def echo_request(ping: Ping) -> bytes:
    """The frame of a ping."""
    return _echo(_ECHO_REQUEST, ping)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): over data that holds its own checksum it is 0."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _parse_arp(body: bytes) -> WhoHas | None:
    *kind, operation, mac, address, _, target = _ARP.unpack_from(body)
    if tuple(kind) != _ETHERNET_ARP or operation != _REQUEST:
        return None
    return WhoHas(Host(mac, IPv4Address(address)), IPv4Address(target))


def _parse_ipv4(body: bytes, sender: bytes, receiver: bytes) -> Datagram | Ping | None:
    version, _, total, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(body)
    header = (version & 0xF) * 4
    if version >> 4 != 4 or not _IPV4.size <= header <= total <= len(body):
        return None
    # The lowest 13 bits are the offset of a fragment, the one above says that more follow.
    if fragment & 0x3FFF or checksum(body[:header]):
        return None
    packet = Packet(Host(sender, IPv4Address(source)), Host(receiver, IPv4Address(destination)))
    # The frame may be longer: short ones are padded.
    content = body[header:total]
    return _parse_udp(packet, content) if protocol == _UDP_PROTOCOL else _parse_ping(packet, protocol, content)


def _parse_udp(packet: Packet, content: bytes) -> Datagram | None:
    source, destination, length, sum_ = _UDP.unpack_from(content)
    if not _UDP.size <= length <= len(content):
        return None
    content = content[:length]
    if sum_ and checksum(_pseudo_header(packet, length) + content):
        return None
    return Datagram(packet.sender, packet.receiver, source, destination, content[_UDP.size :])


def _parse_ping(packet: Packet, protocol: int, content: bytes) -> Ping | None:
    kind, code, _ = _ECHO.unpack_from(content)
    if protocol != _ICMP or (kind, code) != (_ECHO_REQUEST, 0) or checksum(content):
        return None
    return Ping(packet.sender, packet.receiver, content[_ECHO.size :])


def _echo(kind: int, ping: Ping) -> bytes:
    sum_ = checksum(_ECHO.pack(kind, 0, 0) + ping.rest)
    return _ipv4(ping, _ICMP, _ECHO.pack(kind, 0, sum_) + ping.rest)


def _pseudo_header(packet: Packet, length: int) -> bytes:
    addresses = packet.sender.address.packed + packet.receiver.address.packed
    return addresses + struct.pack("!BBH", 0, _UDP_PROTOCOL, length)


def _ipv4(packet: Packet, protocol: int, content: bytes) -> bytes:
    ends = packet.sender.address.packed, packet.receiver.address.packed
    fields = (0x45, 0, _IPV4.size + len(content), 0, _DO_NOT_FRAGMENT, 64, protocol)
    header = _IPV4.pack(*fields, checksum(_IPV4.pack(*fields, 0, *ends)), *ends)
    return _frame(packet.sender.mac, packet.receiver.mac, _TYPE_IPV4, header + content)


def _frame(sender: bytes, receiver: bytes, kind: int, body: bytes) -> bytes:
    return (_ETHERNET.pack(receiver, sender, kind) + body).ljust(_MINIMUM, b"\0")
