"""Whether a process written down earlier still runs: its PID alone would not tell, since it may be a stranger's by now.

Standard library only: the BMC's chassis program asks this whenever IPMI does, and must answer fast.
"""

from __future__ import annotations


def boot_id() -> str:
    """/proc/sys/kernel/random/boot_id: another one after each boot of the host (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:  # noqa: PTH123 -- pathlib costs time to import
        return f.read().strip()


def stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time in ticks since boot, fields 3 and 22 of proc(5); None where there is no process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:  # noqa: PTH123
            text = f.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may itself hold blanks and parentheses; what follows the last one is regular.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def alive(pid: int, started: int, boot: str) -> bool:
    """Whether the process of that PID, start time and boot runs. A zombie does not."""
    if boot_id() != boot:
        return False
    state, since = stat(pid) or ("Z", 0)
    return state not in "ZX" and since == started
