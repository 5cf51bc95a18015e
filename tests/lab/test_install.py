"""Empty servers: by each way and firmware to the installer; and (long) over the network to the formed pair.

From a stick on UEFI comes the pair of test_pulled_plugs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from lab.console import Follower, Stage
from lab.media import Firmware
from lab.origin import Origin
from lab.pair import INSTALL_TIMEOUT, Lab
from tests.lab.conftest import BOOT_LIMIT, FORMED_LAB, PROJECT, assert_healthy, assert_installed, fresh_lab, reset

pytestmark = pytest.mark.lab

Make = Callable[[str, Firmware], Lab]


@pytest.fixture
def make(config_file: Path, small_config_file: Path, image: Path) -> Iterator[Make]:
    """Makes the one lab of a test, of what stands beside the image."""
    if FORMED_LAB.exists():
        # Four machines at once would be too much for the host.
        Lab(FORMED_LAB).down()
    labs = []

    def make(via: str, firmware: Firmware) -> Lab:
        origin = Origin.read(via, image.parent)
        where = PROJECT / ".lab" / "test-install"
        labs.append(fresh_lab(where, small_config_file, origin, firmware, config_file.parent / "secrets"))
        return labs[-1]

    yield make
    for lab in labs:
        reset(lab)


@pytest.mark.parametrize(
    ("via", "firmware"),
    list(product(("usb", "cd", "pxe"), ("bios", "uefi"))),
)
def test_an_empty_server_comes_to_the_installer(make: Make, via: str, firmware: Firmware) -> None:
    if via == "pxe" and os.geteuid() != 0:
        pytest.skip("a network namespace takes root")
    lab = make(via, firmware)
    lab.start("xen1")
    lab.wait("xen1", until=Stage.INSTALLER, timeout=BOOT_LIMIT)


@pytest.mark.long
def test_the_pair_forms_though_the_power_is_cut_while_one_is_written(make: Make) -> None:
    lab = make("pxe", "bios")
    lab.start()
    wait_for_percentage(lab, "xen2")
    lab.kill("xen2")
    lab.start("xen2")
    lab.wait(timeout=INSTALL_TIMEOUT)
    assert_healthy(lab)
    assert_installed(lab)


def wait_for_percentage(lab: Lab, node: str) -> None:
    """Until the installer has told how much it has written."""
    follower = Follower(lab.directory / f"{node}.log", lab.state().boots[node])
    deadline = time.monotonic() + BOOT_LIMIT
    while not ((step := (progress := follower.poll()).step) and "%" in step.text):
        assert not progress.failure, f"{node}: {progress.failure}"
        assert progress.stage <= Stage.INSTALLER, f"{node} was installed before it was seen to write"
        assert time.monotonic() < deadline, f"{node} never wrote"
        time.sleep(0.1)
