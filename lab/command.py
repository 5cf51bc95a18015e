"""What the lab's tasks do, for the cases where that is more than one call of Lab."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from rich.console import Console

from lab.bmc_view import Mode
from lab.choices import one_of
from lab.errors import LabError
from lab.media import Firmware
from lab.origin import Origin
from lab.pair import INSTALL_TIMEOUT, Lab, directory
from lab.switch import Segment


def opened(name: str) -> Lab:
    """The lab of that name. Raises NoLabError where there is none."""
    return Lab(directory(name))


def segment(link: str) -> Segment:
    """A link's name from the command line. Raises LabError for one that does not exist."""
    return one_of(get_args(Segment), link, f"there is no link {link!r} in the lab", "its links:")


def bmc_mode(name: str) -> Mode:
    """A BMC's mode from the command line. Raises LabError for one that does not exist."""
    return one_of(get_args(Mode), name, f"a BMC has no mode {name!r}", "its modes:")


def up(name: str, config: Path, out: Path, firmware: str) -> int:
    """Make the lab if there is none, start it, wait until the pair is formed, and print its status; the exit code."""
    image = out / "xenpair.qcow2"
    if not image.exists():
        raise LabError(f"{image} is not there", hint="`invoke build-image` makes it")
    lab = Lab.prepare(directory(name), config, image, firmware=_firmware(firmware))
    lab.up()
    return show_status(lab, json=False)


def install(name: str, config: Path, out: Path, firmware: str, via: str) -> int:
    """The same from empty disks, installed by the way that via names."""
    lab = Lab.prepare(directory(name), config, Origin.read(via, out), firmware=_firmware(firmware))
    lab.start()
    if (page := lab.state().page) is not None:
        sys.stdout.write(f"every node, live: http://127.0.0.1:{page}/\n")
    lab.wait(timeout=INSTALL_TIMEOUT)
    return show_status(lab, json=False)


def _firmware(name: str) -> Firmware:
    return one_of(get_args(Firmware), name, f"there is no firmware {name!r}", "it is one of")


def show_status(lab: Lab, *, json: bool) -> int:
    """Print the status; the exit code is 0 healthy, 2 degraded, 1 failed."""
    status = lab.status()
    if json:
        sys.stdout.write(status.model_dump_json(indent=1) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(status.table())
    return status.exit_code
