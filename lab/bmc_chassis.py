"""The chassis that ipmi_sim controls: `python -m lab.bmc_chassis NODE get power | set power 0|1 | set reset 1`

ipmi_sim runs this in the lab's directory (chassis_control; OpenIPMI's lanserv/lan.conf and bmc_chassis.c) and answers
nobody until it has ended. So it says what is so, or takes an order down and leaves the work to lab.bmc_power: a real
BMC acknowledges at once too, and a power off that was acknowledged is not yet one. Standard library only, as
lab.bmc_view.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from lab import bmc_orders, bmc_view
from lab.bmc_orders import Order

_SET: dict[tuple[str, str], Order] = {("power", "0"): "off", ("power", "1"): "on", ("reset", "1"): "reset"}


def log_file(node: str) -> str:
    """Name of the file with the orders of a node's BMC and what came of them."""
    return f"{node}.bmc.log"


def is_on(directory: Path, node: str) -> bool:
    """What the BMC says of its machine: on while it runs, and while an order waits, which may be one to start it."""
    # In this order: an order is taken away only after the state says what came of it.
    if bmc_orders.waiting(directory, node):
        return True
    return any(bmc.node == node and bmc.powered() for bmc in bmc_view.read(directory))


def main(argv: list[str]) -> int:
    """Answer one question or take one order; the exit code is 0, or 1 for what this chassis cannot do."""
    node, verb, *words = argv
    if (verb, words) == ("get", ["power"]):
        sys.stdout.write(f"power:{int(is_on(Path(), node))}\n")
        return 0
    order = _SET.get((words[0], words[1])) if verb == "set" and len(words) == 2 else None
    return 1 if order is None else _take(node, order)


def _take(node: str, order: Order) -> int:
    mode = next((bmc.mode for bmc in bmc_view.read(Path()) if bmc.node == node), "ok")
    if mode == "lies" and order != "on":
        _log(node, f"{order} acknowledged, and nothing done: this BMC lies")
        return 0
    try:
        bmc_orders.add(Path(), node, order)
    except FileNotFoundError:
        return 1
    _log(node, f"{order} acknowledged")
    _carry_out(node)
    return 0


def _carry_out(node: str) -> None:
    """Start lab.bmc_power in a session of its own, where nobody waits for it."""
    argv = [sys.executable, "-m", "lab.bmc_power", node]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log_file(node), os.O_WRONLY | os.O_APPEND, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsid=True)


def _log(node: str, text: str) -> None:
    with Path(log_file(node)).open("a") as f:
        f.write(f"{time.strftime('%F %T')} {text}\n")


if __name__ == "__main__":
    # ipmi_sim leaves its sockets open in its children: lab.bmc_power would keep its port.
    os.closerange(3, 1 << 16)
    sys.exit(main(sys.argv[1:]))
