"""The order of an upgrade: look at both nodes, ask, then one node after the other, each only while both are healthy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from config.errors import XenpairError
from config.upgrade import NodePlan
from images.errors import UpgradeError
from images.progress import Progress
from images.upgrading.offer import Offer
from images.upgrading.remote import Remote

SLACK = 300.0
"""Seconds beyond heartbeat's initdead until a pair is healthy again: storage, sessions, and emulation."""
BOOT_LIMIT = 1200.0
"""Seconds for a reboot: servers with much memory spend ten minutes in their firmware."""
POLL = 5.0
"""Seconds between two looks at the pair."""

Ask = Callable[[str], str]


def upgrade(offer: Offer, nodes: Sequence[Remote], ask: Ask | None, progress: Progress) -> None:
    """Bring what is offered to both nodes. ask: how to have a yes typed; None where nobody is asked.

    Raises UpgradeError, with nothing changed, where the pair is not healthy, or a node refuses, or the answer is no;
    and where the node that was reached does not become healthy again: then the other one was not touched.
    """
    _require_healthy(nodes)
    plans = _look(offer, nodes, progress)
    if all(plan.nothing_to_do for plan in plans):
        return
    if ask is not None and ask("Upgrade both nodes, one after the other? Type yes: ").strip() != "yes":
        raise UpgradeError("not confirmed: nothing was changed", hint="the answer is yes")
    limit = offer.loaded.cluster.heartbeat.initdead + SLACK
    for node, plan in zip(nodes, plans, strict=True):
        if not plan.nothing_to_do:
            untouched = [other.name for other in nodes[nodes.index(node) + 1 :]]
            with progress.stage(f"{node.name}: upgrading"):
                _carry_out(node, nodes, limit, untouched)
    progress.note("both nodes are upgraded, and healthy")


def _require_healthy(nodes: Sequence[Remote]) -> None:
    if sick := _sick(nodes):
        raise UpgradeError(
            "nothing was changed: the pair is not healthy\n" + sick,
            hint="`xenpair status` on the node says more; what is degraded heals first",
        )


def _sick(nodes: Sequence[Remote]) -> str:
    """A line for each node that is not healthy; empty where both are."""
    with ThreadPoolExecutor() as pool:
        found = list(zip(nodes, pool.map(lambda node: node.health(), nodes), strict=True))
    return "\n".join(f"  {node.name}: {health.state}: {health.text}" for node, health in found if not health.healthy)


def _look(offer: Offer, nodes: Sequence[Remote], progress: Progress) -> list[NodePlan]:
    plans = []
    for node in nodes:
        with progress.stage(f"{node.name}: looking at what would change"):
            node.send(offer)
            plan = node.plan()
        if plan.node != node.name:
            raise UpgradeError(f"nothing was changed: {node.target} is {plan.node}, and not {node.name}")
        plans.append(plan)
    for plan in plans:
        for line in plan.lines():
            progress.note(line)
    if any(plan.refused for plan in plans):
        raise UpgradeError("nothing was changed: see what is refused above", hint="take it back, or follow its advice")
    return plans


def _carry_out(node: Remote, nodes: Sequence[Remote], limit: float, untouched: Sequence[str]) -> None:
    try:
        outcome = node.upgrade()
        if outcome.reboot:
            node.reboot(BOOT_LIMIT)
            _await_healthy(nodes, limit)
            node.upgrade()
        _await_healthy(nodes, limit)
    except XenpairError as e:
        others = "".join(f"; {name} was not touched" for name in untouched)
        raise UpgradeError(
            f"stopped at {node.name}{others}\n  {e.message}",
            hint=f"mend it and type the same again, or go back: ssh {node.target} xenpair upgrade --back",
        ) from e


def _await_healthy(nodes: Sequence[Remote], limit: float) -> None:
    deadline = time.monotonic() + limit
    while sick := _sick(nodes):
        if time.monotonic() > deadline:
            raise UpgradeError(f"the pair is not healthy {limit:.0f} s later\n{sick}")
        time.sleep(POLL)
