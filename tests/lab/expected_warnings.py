"""Warnings that a boot may write of itself, each with the reason why it is none of ours. Anything else is news."""

from __future__ import annotations

import re

EXPECTED: tuple[tuple[str, str], ...] = (
    (r"kernel: Grant table initialized", "Xen's driver says it at warning level"),
    (r"kernel: (acpi PNP0A03:00: fail to add MMCONFIG|hpet_acpi_add: no address|amd_pstate: the _CPC)", "QEMU's ACPI"),
    (r"kernel: device-mapper: core: CONFIG_IMA_DISABLE_HTABLE", "the kernel's own configuration"),
    (
        r"kernel: (hrtimer: interrupt took|clocksource: |perf: interrupt took|workqueue: \S+ hogged)",
        "emulation is slow",
    ),
    (r"WARN: (G_CH_|Gmain_|G_SIG_|G_WC_)\w+: .*(took|was delayed)", "emulation is slow"),
    (r"heartbeat\[\d+\]: \[\d+\]: WARN: Late heartbeat", "emulation is slow"),
    (r"systemd-journald\[\d+\]: File \S+ corrupted or uncleanly shut down", "its power was cut before this boot"),
    (r"heartbeat\[\d+\]: \[\d+\]: WARN: No Previous generation", "heartbeat's very first start"),
    (
        r"heartbeat\[\d+\]: \[\d+\]: WARN: \d lost packet\(s\) for \[[\w-]+\] \[\d:\d\]$",
        "the first of a peer that has just started, which heartbeat asks for again",
    ),
)

STALL = re.compile(
    r"^[^\n]*kernel: (watchdog: BUG: soft lockup|rcu: INFO: rcu_\w+ (self-)?detected).*?</TASK>[^\n]*$\n?",
    re.MULTILINE | re.DOTALL,
)
"""The emulated CPU's clock jumps when QEMU resets a machine; the kernel takes that for a CPU that was stuck."""


def unexpected(journal: str) -> list[str]:
    """Lines of a journal at warning or above that nothing here explains."""
    patterns = [re.compile(pattern) for pattern, _ in EXPECTED]
    lines = STALL.sub("", journal).splitlines()
    return [line for line in lines if line and not any(p.search(line) for p in patterns)]
