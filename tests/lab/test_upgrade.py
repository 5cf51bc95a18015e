"""Another package and another config reach both nodes of the formed pair, and back; the guests never notice."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from config.loader import load
from images.deb import Package, build
from images.progress import Progress
from images.upgrading import remote, rollout
from images.upgrading.offer import Offer
from lab.guest import GUESTS
from lab.pair import Lab
from tests.lab.conftest import answer, assert_healthy, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.long]

NODES = ("xen1", "xen2")
DNS = "192.168.132.254"
BACK_LIMIT = 600.0
"""Seconds for dpkg and a look at everything, under emulation."""


@pytest.fixture
def lab(formed_lab: Lab | None) -> Iterator[Lab]:
    """The formed pair, which has its own package and config again afterwards."""
    if formed_lab is None:
        pytest.skip("an upgrade is the administrator's to decide")
    assert_healthy(formed_lab)
    yield formed_lab
    for node in NODES:
        formed_lab.ssh(node, "xenpair upgrade --back", timeout=BACK_LIMIT)


def installed(lab: Lab) -> set[str]:
    return {lab.ssh(node, "dpkg-query -W -f '${Version}' xenpair-firstboot").stdout for node in NODES}


def test_a_package_and_a_config_reach_both_nodes_and_guests_keep_running(
    lab: Lab, guest_config_file: Path, tmp_path: Path
) -> None:
    package = Package.read()
    newer = replace(package, version=f"{package.version}+1")
    deb = tmp_path / newer.file_name
    build(newer, tmp_path / "root", deb)
    config = tmp_path / "cluster.yaml"
    document = guest_config_file.read_text()
    config.write_text(document.replace("bridge: xenbr0", f"bridge: xenbr0\n  dns: [{DNS}]"))
    before = {name: wait_for(name, partial(answer, lab, name, address)).boot for name, (_, address) in GUESTS.items()}
    nodes = remote.nodes(load(config).cluster, lab.ssh_config)

    shown = io.StringIO()
    rollout.upgrade(Offer(deb, load(config)), nodes, None, Progress(Console(file=shown, width=200)))

    assert shown.getvalue().count("guests    stay where they are") == 2
    assert installed(lab) == {newer.version}
    for node in NODES:
        assert f"nameserver {DNS}" in lab.ssh(node, "cat /etc/resolv.conf").stdout
    after = {name: wait_for(name, partial(answer, lab, name, address)).boot for name, (_, address) in GUESTS.items()}
    assert after == before
    assert all(node.plan().nothing_to_do for node in nodes)
