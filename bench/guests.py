"""What users notice: how long a guest is away when its node dies, and how long a live migration silences it."""

from __future__ import annotations

import re
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

from bench.pair import formed, succeeds, wait
from bench.rows import Row
from lab.errors import LabError
from lab.guest import GUESTS, RAMDISK, ask, write_guest_config
from lab.pair import Lab

OURS_LIMIT = 5.0
"""Seconds between the proof that the lost node is off and the end of xl create: the share that is ours."""
ANSWER_LIMIT = 600.0
MIGRATED, MIGRATED_AT = "bench01", "192.168.132.70/24"
STAGES = {
    "DRBD has noticed": r"kernel: .*conn\( Connected -> NetworkFailure",
    "heartbeat has declared it dead": r"heartbeat.*node \S+: is dead",
    "it is proven off": r"fencing: proven: \S+ is off|fence-peer helper returned 7",
    "its group is the other node's": r"this node carries the guests of",
    "xl makes its guest": rf"guests: {next(iter(GUESTS))} is being started",
    "its guest is started": rf"guests: {next(iter(GUESTS))} is started",
}
"""By their traces in the survivor's journal, in the order in which they are expected."""


def measure_guests(config: Path, cache: Path, out: Path) -> list[Row]:
    """A live migration, then a power cut. Raises BuildError, LabError, NotFormedError, CommandError."""
    with formed(config, cache, out, partial(write_guest_config, cache=cache)) as lab:
        return [*migration(lab), *failover(lab)]


def migration(lab: Lab) -> list[Row]:
    """Of a guest of 256 MiB, pinged ten times a second from the node that it goes to."""
    first, second = (node.name for node in lab.state().cluster.nodes)
    words = f"--home {first} --memory 256M --disk 8M --ramdisk {RAMDISK} --address {MIGRATED_AT}"
    lab.ssh(first, f"xenpair guest create {MIGRATED} {words} --option tsc_mode=native", timeout=ANSWER_LIMIT)
    _wait_answer(lab, second, MIGRATED_AT)
    log = "/run/bench-ping"
    address = MIGRATED_AT.partition("/")[0]
    pinging = f"echo $$ >{log}.pid; exec timeout {ANSWER_LIMIT:.0f} ping -n -D -i 0.1 {address}"
    lab.ssh(second, f"setsid sh -c '{pinging}' >{log} 2>&1 </dev/null &")
    begun = time.monotonic()
    lab.ssh(first, f"xenpair guest migrate {MIGRATED}", timeout=ANSWER_LIMIT)
    took = time.monotonic() - begun
    _wait_answer(lab, second, MIGRATED_AT)
    seen = lab.ssh(second, f"kill $(cat {log}.pid); cat {log}").stdout
    rows = [Row("live migration of 256 MiB", took), Row("  its longest silence", longest_silence(seen))]
    gone = f"xenpair guest stop {MIGRATED} && echo {MIGRATED} | xenpair guest delete {MIGRATED}"
    lab.ssh(second, gone, timeout=ANSWER_LIMIT)
    return rows


def longest_silence(pings: str) -> float:
    """Seconds between two replies that `ping -D` has printed. Raises LabError where there are not two."""
    times = [float(stamp) for stamp in re.findall(r"^\[(\d+\.\d+)\] \d+ bytes from", pings, re.MULTILINE)]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    if not gaps:
        raise LabError(f"the guest was never heard: {pings[-200:]!r}")
    return max(gaps)


def failover(lab: Lab) -> list[Row]:
    """From the power cut of the first node to its guest's first answer from the second, by the second one's clock."""
    first, second = (node.name for node in lab.state().cluster.nodes)
    address = next(iter(GUESTS.values()))[1]
    _wait_answer(lab, second, address)
    cut = float(lab.ssh(second, "date +%s.%N").stdout)
    lab.kill(first)
    # Nothing answers for it from now on until the other node has started it.
    waiting = f"until {_answers(address)}; do sleep 0.2; done; date +%s.%N"
    answered = float(lab.ssh(second, waiting, timeout=ANSWER_LIMIT).stdout)
    journal = lab.ssh(second, f"journalctl --output short-unix --no-hostname --quiet --since @{int(cut)}").stdout
    times = stages(journal, cut)
    rows = [Row(f"power cut: {what}", at) for what, at in times.items()]
    rows.append(Row("power cut: its guest answers", answered - cut))
    rows.append(Row("  of that ours", times["its guest is started"] - times["it is proven off"], OURS_LIMIT))
    rows.append(Row("  of which xl create", times["its guest is started"] - times["xl makes its guest"]))
    return rows


def stages(journal: str, cut: float) -> dict[str, float]:
    """Seconds after the cut at which each stage first shows in a journal with Unix times. Raises LabError."""
    found: dict[str, float] = {}
    for line in journal.splitlines():
        stamp, _, text = line.partition(" ")
        for what, pattern in STAGES.items():
            if what not in found and re.search(pattern, text):
                found[what] = float(stamp) - cut
    if missing := [what for what in STAGES if what not in found]:
        raise LabError(f"the survivor's journal does not show: {', '.join(missing)}")
    return dict(sorted(found.items(), key=lambda stage: stage[1]))


def _wait_answer(lab: Lab, node: str, address: str) -> None:
    wait(lambda: succeeds(lab, node, _answers(address)), ANSWER_LIMIT, f"{address} does not answer")


def _answers(address: str) -> str:
    """A shell command for a dom0 that succeeds once the guest answers."""
    return f"{ask(address, 'who')} 2>/dev/null | grep -q ."
