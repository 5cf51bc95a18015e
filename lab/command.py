"""What the lab.* tasks print and return; all else is Lab's."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from rich.console import Console

from images.disklayer import NAME
from lab.errors import LabError
from lab.machine import Firmware
from lab.pair import Lab, directory
from lab.report import LabStatus
from lab.switch import Segment
from lab.watch import display

IMAGE = f"{NAME}.qcow2"


def opened(name: str) -> Lab:
    """The lab of that name. Raises NoLabError."""
    return Lab(directory(name))


def up(name: str, config: Path, out: Path, firmware: str) -> int:
    """Bring the lab up from the image in out and show how, then print its status and return its exit code."""
    choices: Mapping[str, Firmware] = {choice: choice for choice in get_args(Firmware)}
    if firmware not in choices:
        raise LabError(f"there is no firmware {firmware!r}", hint=f"use one of {', '.join(choices)}")
    lab = Lab.prepare(directory(name), config, out / IMAGE, firmware=choices[firmware])
    started = time.monotonic()
    lab.up(screen=display(sys.stdout))
    Console().print(f"The pair is formed, {time.monotonic() - started:.0f} s after the start.")
    return show_status(lab, json=False)


def segment(link: str) -> Segment:
    """The segment that a user named. Raises LabError."""
    known: Mapping[str, Segment] = {name: name for name in get_args(Segment)}
    if link not in known:
        raise LabError(f"there is no link {link!r}", hint=f"use one of {', '.join(known)}")
    return known[link]


def show_status(lab: Lab, *, json: bool) -> int:
    """Print the status, as a table or as JSON; its exit code."""
    status: LabStatus = lab.status()
    if json:
        sys.stdout.write(status.model_dump_json(indent=2) + "\n")
    else:
        Console().print(status.table())
    return status.exit_code
