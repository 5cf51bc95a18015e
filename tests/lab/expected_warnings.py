"""Warnings that a clean boot may write, each with the reason why it is none of ours. Anything else is news."""

from __future__ import annotations

import re

EXPECTED: tuple[tuple[str, str], ...] = (
    (r"kernel: Grant table initialized", "Xen's driver says it at warning level"),
    (r"kernel: (acpi PNP0A03:00: fail to add MMCONFIG|hpet_acpi_add: no address|amd_pstate: the _CPC)", "QEMU's ACPI"),
    (r"kernel: device-mapper: core: CONFIG_IMA_DISABLE_HTABLE", "the kernel's own configuration"),
    (r"kernel: (hrtimer: interrupt took|clocksource: Long readout)", "emulation is slow"),
    (r"WARN: (G_CH_|Gmain_|G_SIG_|G_WC_)\w+: .* took ", "emulation is slow"),
    (r"WARN: Gmain_timeout_dispatch: Dispatch function .* was delayed", "emulation is slow"),
    (r"heartbeat\[\d+\]: \[\d+\]: WARN: No Previous generation", "heartbeat's very first start"),
)


def unexpected(journal: str) -> list[str]:
    """Lines of a journal at warning or above that no entry of EXPECTED explains."""
    patterns = [re.compile(pattern) for pattern, _ in EXPECTED]
    return [line for line in journal.splitlines() if line and not any(p.search(line) for p in patterns)]
