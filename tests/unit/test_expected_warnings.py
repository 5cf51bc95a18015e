"""What the journal of a clean boot is forgiven."""

from __future__ import annotations

from tests.lab.expected_warnings import unexpected

STALL = """\
[    5.784740] kernel: watchdog: BUG: soft lockup - CPU#0 stuck for 56s! [swapper/0:0]
[    5.784745] kernel: Modules linked in: drbd
[    5.784750] kernel:  <TASK>
[    5.784760] kernel:  </TASK>
"""


def test_a_jump_of_the_emulated_clock_is_forgiven_and_nothing_else_with_it() -> None:
    news = "[    9.000000] drbd: something new"
    assert unexpected(STALL) == []
    assert unexpected(f"{STALL}{news}\n{STALL}") == [news]


def test_an_unknown_warning_is_news() -> None:
    assert unexpected("[ 1.0] kernel: Grant table initialized\n[ 2.0] kernel: EXT4-fs error\n") == [
        "[ 2.0] kernel: EXT4-fs error"
    ]


def test_packets_lost_while_the_peer_starts_are_forgiven_and_later_ones_are_news() -> None:
    line = "[ 179.6] heartbeat[347]: [490]: WARN: 3 lost packet(s) for [xen2] [{}]"
    assert unexpected(f"{line.format('1:5')}\n{line.format('100:104')}") == [line.format("100:104")]
