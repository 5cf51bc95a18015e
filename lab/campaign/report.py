"""The table at a campaign's end."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.table import Table

from config.model import Cluster
from firstboot.plan.fencing import GRACE
from lab.campaign.campaign import Outcome

ALLOWANCE = 10
"""Seconds that the storage may take to be usable again, beyond the time to notice a loss and to fence."""


def table(outcomes: Sequence[Outcome], cluster: Cluster) -> Table:
    """By fault: rounds, seconds until healthy and without an acknowledged write (median, worst), audits that failed."""
    deadtime, fencing = cluster.heartbeat.deadtime, GRACE + cluster.fencing.delay
    goal = (
        f"no write for: at most {deadtime + fencing + ALLOWANCE:.0f} s is the goal after the loss of a node "
        f"(deadtime {deadtime} + fencing {fencing:.0f} + {ALLOWANCE})"
    )
    result = Table("fault", "rounds", "healthy again", "worst", "no write for", "worst", "failed", caption=goal)
    for column in result.columns[1:]:
        column.justify = "right"
    for name in sorted({outcome.round.fault.name for outcome in outcomes}):
        result.add_row(name, *_row([outcome for outcome in outcomes if outcome.round.fault.name == name]))
    result.add_section()
    result.add_row("all", *_row(outcomes))
    return result


def summary(outcome: Outcome) -> str:
    """One line for what came of a round, and one for each audit that failed."""
    healthy = "not healthy again" if outcome.recovered is None else f"healthy again after {outcome.recovered:.0f} s"
    pause = "" if outcome.paused is None else f", no write for {outcome.paused:.0f} s"
    return "\n    ".join([healthy + pause, *(f"FAILED: {finding}" for finding in outcome.findings)])


def _row(outcomes: Sequence[Outcome]) -> list[str]:
    recovered = [outcome.recovered for outcome in outcomes if outcome.recovered is not None]
    paused = [outcome.paused for outcome in outcomes if outcome.paused is not None]
    failed = sum(bool(outcome.findings) for outcome in outcomes)
    return [str(len(outcomes)), *_seconds(recovered), *_seconds(paused), str(failed) if failed else "-"]


def _seconds(values: Sequence[float]) -> tuple[str, str]:
    return (f"{median(values):.0f} s", f"{max(values):.0f} s") if values else ("", "")
