"""Many changes of the volume group from both nodes at once, and what has to be true of it afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.door import kill_group
from lab.pair import Lab

PROGRAM = Path(__file__).with_name("volume_caller.py")
"""Not imported: it looks for its modules where a node has them."""


@dataclass
class Account:
    """What callers were told. there: bytes by name; unsure: names whose last call nobody answered; done: how many."""

    there: dict[str, int] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    done: int = 0

    def note(self, line: str) -> None:
        """One line of a caller."""
        what, name, *rest = line.split(" ", 2)
        match what:
            case "begin":
                self.unsure.add(name)
                return
            case "refused":
                # Nothing was changed, or it was taken back, or it will be: its own settling says which.
                self.refused.append(f"{name}: {rest[0] if rest else ''}")
                return
            case "delete":
                self.there.pop(name, None)
            case _:
                self.there[name] = int(rest[0])
        self.unsure.discard(name)
        self.done += 1


class Callers:
    """So many processes on each node, each making so many calls."""

    def __init__(self, lab: Lab, processes: int, calls: int) -> None:
        self._running = []
        for node in lab.state().cluster.nodes:
            # All share one connection; begun at once without it, each would want to be the one that others share.
            lab.ssh(node.name, "true")
            for number in range(processes):
                argv = lab.ssh_argv(node.name, f"python3 - {node.name}-{number} {calls}")
                with PROGRAM.open() as program:
                    process = subprocess.Popen(
                        argv, stdin=program, stdout=subprocess.PIPE, text=True, start_new_session=True
                    )
                self._running.append(process)

    def end(self, limit: float) -> Account:
        """What became of all their calls; those that are not done within limit seconds are left alone."""
        account = Account()
        for process in self._running:
            try:
                out = process.communicate(timeout=limit)[0]
            except subprocess.TimeoutExpired:
                kill_group(process)
                out = process.communicate()[0]
            for line in out.splitlines(keepends=True):
                # A line that is cut off was told to nobody.
                if line.endswith("\n"):
                    account.note(line.rstrip("\n"))
        return account


def seqno(lab: Lab, node: str) -> int:
    """Which version of the volume group's metadata a node sees. Raises CommandError."""
    return int(lab.ssh(node, f"vgs --noheadings -o vg_seqno {lab.state().cluster.storage.volume_group}").stdout)


def audit(lab: Lab, account: Account) -> list[str]:
    """What is not as it has to be. Raises CommandError."""
    nodes = [node.name for node in lab.state().cluster.nodes]
    group = lab.state().cluster.storage.volume_group
    seen = {}
    found = []
    for node in nodes:
        lab.ssh(node, f"vgck {group}")
        command = f"lvs --reportformat json --units b --nosuffix -o lv_name,lv_size,lv_uuid {group}"
        rows = json.loads(lab.ssh(node, command).stdout)["report"][0]["lv"]
        seen[node] = (seqno(lab, node), {row["lv_name"]: (int(row["lv_size"]), row["lv_uuid"]) for row in rows})
    if len({repr(view) for view in seen.values()}) > 1:
        found.append(f"the nodes see different metadata: {seen}")
    return [*found, *compare(account, {name: size for name, (size, _) in seen[nodes[0]][1].items()})]


def compare(account: Account, volumes: Mapping[str, int]) -> list[str]:
    """Acknowledged volumes that are not there or too small, and ours that are there and were deleted."""
    ours = {name: size for name, size in volumes.items() if name.startswith("v-") or name in account.there}
    missing = sorted(set(account.there) - set(ours) - account.unsure)
    left = sorted(set(ours) - set(account.there) - account.unsure)
    small = sorted(
        name for name, size in account.there.items() if ours.get(name, size) != size and name not in account.unsure
    )
    return [
        *(f"{name} is lost" for name in missing),
        *(f"{name} was deleted, and is there" for name in left),
        *(f"{name} has {ours[name]} bytes, and {account.there[name]} were acknowledged" for name in small),
    ]
