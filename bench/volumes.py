"""Two hundred changes of the volume group from both nodes at once; then again, with a power cut in their middle."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from bench.pair import formed, succeeds, wait
from bench.rows import Row
from lab.errors import LabError
from lab.pair import Lab
from lab.small import write_small_config
from lab.volume_calls import Account, Callers, audit, seqno

PROCESSES, CALLS = 4, 25
"""On each node, and by each of them: 200 calls in all."""
CHANGES_BEFORE = 100
"""Of the volume group's metadata until the power is cut: a call makes about two."""
CALLS_LIMIT = 5400.0
HEALTH_LIMIT = 900.0


def measure_volumes(config: Path, cache: Path, out: Path) -> list[Row]:
    """Raises LabError where anything is not as it has to be afterwards; BuildError, NotFormedError, CommandError."""
    with formed(config, cache, out, lambda of, where: write_small_config(of, where / "small.yaml")) as lab:
        return [*undisturbed(lab), *with_a_power_cut(lab)]


def undisturbed(lab: Lab) -> list[Row]:
    """All calls are made."""
    begun = time.monotonic()
    account = Callers(lab, PROCESSES, CALLS).end(CALLS_LIMIT)
    took = time.monotonic() - begun
    if account.refused:
        raise LabError(f"refused: {'; '.join(account.refused)}")
    _check(lab, account)
    _clear(lab, account)
    return [Row(f"{account.done} changes of the volume group from both nodes at once", took)]


def with_a_power_cut(lab: Lab) -> list[Row]:
    """The second node goes in the middle of it, and comes back."""
    first, name = (node.name for node in lab.state().cluster.nodes)
    then = seqno(lab, first) + CHANGES_BEFORE
    callers = Callers(lab, PROCESSES, CALLS)
    wait(lambda: seqno(lab, first) >= then, CALLS_LIMIT, f"there were not {CHANGES_BEFORE} changes")
    lab.kill(name)
    # From now on the other node's calls are refused, until this one is back. It has to be proven off before.
    proven = partial(succeeds, lab, first, "grep -q UpToDate/Outdated /proc/drbd")
    wait(proven, HEALTH_LIMIT, f"{first} has no proof that {name} is off")
    lab.start(name)
    lab.wait(name)
    account = callers.end(CALLS_LIMIT)
    for node in (first, name):
        wait(partial(succeeds, lab, node, "xenpair status"), HEALTH_LIMIT, f"{node} is not healthy again")
    begun = time.monotonic()
    # What the dead node has left half-made goes with the next call of anyone.
    lab.ssh(first, "xenpair guest create settled --memory 64M --disk 4M --kind pv --stopped", timeout=CALLS_LIMIT)
    took = time.monotonic() - begun
    account.there["settled"] = 4 << 20
    _check(lab, account)
    cut = f"{account.done} changes and {len(account.refused)} refusals, with a power cut in the middle"
    return [Row(f"the call after {cut}", took)]


def _check(lab: Lab, account: Account) -> None:
    if found := audit(lab, account):
        raise LabError("; ".join(found))


def _clear(lab: Lab, account: Account) -> None:
    first = lab.state().cluster.nodes[0].name
    for name in sorted(account.there):
        lab.ssh(first, f"echo {name} | xenpair guest delete {name}", timeout=CALLS_LIMIT)
