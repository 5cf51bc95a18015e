"""What the measurements of guests make of a journal, and of the pings."""

from __future__ import annotations

import pytest

from bench.guests import STAGES, longest_silence, stages
from lab.errors import LabError

JOURNAL = """\
1700000000.100000 xenpair[800]: guests: this node carries the guests of xen2
1700000010.500000 kernel: drbd r0: PingAck did not arrive in time.
1700000010.510000 kernel: drbd r0: peer( Primary -> Unknown ) conn( Connected -> NetworkFailure ) susp( 0 -> 1 )
1700000016.000000 xenpair[901]: fencing: proven: xen1 is off by its BMC
1700000016.100000 kernel: drbd r0: fence-peer helper returned 7 (peer was stonithed)
1700000020.250000 heartbeat[700]: [700]: WARN: node xen1: is dead
1700000021.000000 xenpair[950]: guests: this node carries the guests of xen1
1700000022.500000 xenpair[810]: guests: web01 is being started
1700000024.000000 xenpair[810]: guests: web01 is started
"""


def test_each_stage_of_a_failover_is_found_where_it_shows_first() -> None:
    after_the_cut = JOURNAL.partition("\n")[2]
    found = stages(after_the_cut, 1700000000.5)
    assert list(found) == [
        "DRBD has noticed",
        "it is proven off",
        "heartbeat has declared it dead",
        "its group is the other node's",
        "xl makes its guest",
        "its guest is started",
    ]
    assert [round(at, 2) for at in found.values()] == [10.01, 15.5, 19.75, 20.5, 22.0, 23.5]


def test_a_stage_that_does_not_show_is_named() -> None:
    with pytest.raises(LabError, match="its guest is started"):
        stages("".join(line for line in JOURNAL.splitlines(keepends=True) if "is started" not in line), 1700000000.5)
    assert len(STAGES) == 6


def test_the_longest_silence_is_the_time_between_two_replies() -> None:
    pings = """\
PING 192.168.132.70 (192.168.132.70) 56(84) bytes of data.
[1700000000.100000] 64 bytes from 192.168.132.70: icmp_seq=1 ttl=64 time=1.2 ms
[1700000000.200000] 64 bytes from 192.168.132.70: icmp_seq=2 ttl=64 time=1.1 ms
[1700000001.000000] From 192.168.132.2 icmp_seq=4 Destination Host Unreachable
[1700000001.500000] 64 bytes from 192.168.132.70: icmp_seq=15 ttl=64 time=9.0 ms
"""
    assert round(longest_silence(pings), 3) == 1.3


def test_a_guest_that_was_never_heard_is_an_error() -> None:
    with pytest.raises(LabError, match="never heard"):
        longest_silence("PING 192.168.132.70\n")
