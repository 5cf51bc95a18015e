"""What `invoke campaign` does: a lab of its own, the rounds, a table."""

from __future__ import annotations

import secrets
import shutil
import sys
from pathlib import Path

from rich.console import Console

from lab.campaign.campaign import Campaign, Outcome, schedule
from lab.campaign.catalogue import CATALOGUE
from lab.campaign.report import summary, table
from lab.errors import LabError
from lab.guest import write_guest_config
from lab.pair import Lab, directory


def run_campaign(config: Path, out: Path, name: str, *, seed: str, rounds: int, first: int, names: str) -> int:
    """Play the rounds, print what happens and the table at the end; exit code 1 where an audit failed.

    Without a seed one is chosen. name: of the lab, which stays, with its snapshots, for the next campaign; `invoke
    lab.reset --lab NAME` deletes it. first: the round to begin with, of the same sequence. names: faults,
    comma-separated; all for an empty text, `list` only names them. Raises LabError for what cannot be played.
    """
    if names == "list":
        sys.stdout.writelines(f"{fault.name:18} {fault.text}\n" for fault in CATALOGUE.values())
        return 0
    number = _seed(seed)
    planned = schedule(number, rounds, [name for name in names.split(",") if name])[first - 1 :]
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    console.print(f"seed {number}: rounds {first} to {rounds}")
    lab = _opened(directory(name), config, out / "xenpair.qcow2")
    outcomes: list[Outcome] = []
    try:
        campaign = Campaign(lab, console.print)
        campaign.prepare()
        for round_ in planned:
            outcome = campaign.play(round_)
            outcomes.append(outcome)
            console.print(f"    {summary(outcome)}")
            if outcome.findings:
                console.print(f"    kept: {keep(lab, round_.number)}")
    finally:
        lab.down()
        if outcomes:
            console.print(table(outcomes, lab.state().cluster))
        console.print(f"seed {number}")
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _seed(text: str) -> int:
    if not text:
        return secrets.randbelow(10**6)
    if not text.isdecimal():
        raise LabError(f"{text!r} is no seed", hint="a seed is a whole number, such as 7")
    return int(text)


def keep(lab: Lab, number: int) -> Path:
    """Put the consoles' logs of a round that failed where the next restore does not reach them."""
    where = lab.directory / f"failed-{number}"
    where.mkdir(exist_ok=True)
    for node in lab.state().cluster.nodes:
        shutil.copy(lab.directory / f"{node.name}.log", where)
    return where


def _opened(where: Path, config: Path, image: Path) -> Lab:
    """The campaign's lab, on small disks, with two guests."""
    if not image.exists():
        raise LabError(f"{image} is not there", hint="`invoke build-image` makes it")
    where.parent.mkdir(exist_ok=True)
    with_guests = write_guest_config(config, where.with_name(f"{where.name}-config"))
    lab = Lab.prepare(where, with_guests, image, secrets_dir=config.parent / "secrets")
    if lab.state().boots and "formed" not in lab.state().snapshots:
        # Interrupted while it formed: its nodes are neither fresh nor a pair.
        lab.reset()
        lab = Lab.prepare(where, with_guests, image, secrets_dir=config.parent / "secrets")
    return lab
