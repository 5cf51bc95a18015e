"""On UEFI: the power is cut in the middle of first boot, and again on the formed pair. It forms, both times."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from lab.console import Follower
from lab.pair import Lab

pytestmark = pytest.mark.lab

LIMIT = 1200.0
"""Seconds for a step, or for a boot, under emulation."""

HEARTBEAT_LIMIT = 240.0
"""Seconds from usable storage until both heartbeats have heard each other: initdead is 60."""


def wait_for_step(lab: Lab, node: str, text: str) -> None:
    """Until the node's console has come to that step since its last power-on."""
    follower = Follower(lab.directory / f"{node}.log", lab.state().boots[node])
    deadline = time.monotonic() + LIMIT
    while text not in (progress := follower.poll()).text:
        assert not progress.failure, f"{node}: {progress.failure}"
        assert time.monotonic() < deadline, f"{node} never came to {text!r}"
        time.sleep(0.1)


def status(lab: Lab, node: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(lab.ssh(node, "xenpair", "status", "--json", check=False).stdout)
    return answer


def assert_healthy(lab: Lab, node: str) -> None:
    """The node says so; its heartbeat may need a moment more than its storage."""
    deadline = time.monotonic() + HEARTBEAT_LIMIT
    while (found := status(lab, node))["health"] != "healthy":
        assert time.monotonic() < deadline, f"{node} does not become healthy: {found}"


def test_the_pair_forms_through_power_cuts(scratch_lab: Lab) -> None:
    lab = scratch_lab
    lab.start()
    # Its partition and its metadata are made or being made, and nobody has been told.
    wait_for_step(lab, "xen2", "disks")
    lab.kill("xen2")
    lab.start("xen2")
    lab.wait(timeout=LIMIT)

    for node in ("xen1", "xen2"):
        assert lab.ssh(node, "test -d /sys/firmware/efi && cat /sys/hypervisor/type").stdout.strip() == "xen"
        assert_healthy(lab, node)
    journal = [json.loads(line) for line in lab.ssh("xen2", "cat /var/lib/xenpair/journal.jsonl").stdout.splitlines()]
    assert "resumed" in (lab.directory / "xen2.log").read_text(errors="replace")
    # No effect was doubled: one name for the partition, and one partition of that name on the disk.
    (partuuid,) = {entry["detail"]["partuuid"] for entry in journal if "partuuid" in entry["detail"]}
    assert lab.ssh("xen2", "lsblk -nro PARTUUID /dev/vdb").stdout.split() == [partuuid]

    lab.ssh("xen1", "lvcreate --yes --wipesignatures y --size 8M --name kept data && sync")
    lab.ssh("xen1", "echo acknowledged | dd of=/dev/data/kept oflag=direct,sync bs=512 conv=sync status=none")
    lab.kill()
    lab.start()
    lab.wait(timeout=LIMIT)
    for node in ("xen1", "xen2"):
        assert_healthy(lab, node)
        assert "acknowledged" in lab.ssh(node, "dd if=/dev/data/kept iflag=direct bs=512 count=1 status=none").stdout
