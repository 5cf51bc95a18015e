"""A pair whose backing disks are mirrored: it forms, loses power, and goes on with one half until it gets another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.door import write_file
from lab.machine import disk_file
from lab.pair import Lab
from tests.lab.conftest import BOOT_LIMIT, FORMED_LAB, PROJECT, assert_healthy, fresh_lab, reset, status, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.long]

RULE = 'backing: {serial: "data-*", min_size: 4G}'
MIRRORED = 'backing: {raid1: true, serial: "data-*", min_size: 512M, max_size: 512M}'


@pytest.fixture(scope="module")
def lab(config_file: Path, image: Path) -> Iterator[Lab]:
    """A formed pair with mirrors below DRBD."""
    if FORMED_LAB.exists():
        # Four machines at once would be too much for the host.
        Lab(FORMED_LAB).down()
    text = config_file.read_text()
    assert RULE in text
    mirrored = PROJECT / ".lab" / "test-raid.yaml"
    write_file(mirrored, text.replace(RULE, MIRRORED))
    lab = fresh_lab(PROJECT / ".lab" / "test-raid", mirrored, image, "bios", config_file.parent / "secrets")
    try:
        lab.up()
        yield lab
    finally:
        reset(lab)


def test_drbd_lies_on_a_mirror_of_two_disks(lab: Lab) -> None:
    assert_healthy(lab)
    for node in ("xen1", "xen2"):
        assert status(lab, node)["mirror"]["state"] in ("whole", "copying")
        lower = lab.ssh(node, "drbdadm", "sh-ll-dev", "r0").stdout.strip()
        assert lower.startswith("/dev/disk/by-id/md-uuid-")
        assert "raid1" in lab.ssh(node, "cat", "/proc/mdstat").stdout
        assert "mdmonitor.service" in lab.ssh(node, "systemctl", "list-units", "--state=active", "md*").stdout
        assert lab.ssh(node, "systemctl", "--failed", "--no-legend").stdout.strip() == ""


def test_a_pair_comes_back_with_one_half_dead_and_takes_a_blank_disk_in_its_place(lab: Lab) -> None:
    lab.kill()
    # The next power-on finds a blank disk of the same serial there.
    (lab.directory / disk_file("xen1", "backing", "-b")).unlink()
    lab.start()
    lab.wait(timeout=BOOT_LIMIT)
    found = wait_until(lab, "xen1", BOOT_LIMIT, lambda found: found["mirror"]["state"] == "degraded")
    assert found["mirror"]["lost"] == ["data-xen1-b"]
    assert found["health"] == "degraded"
    lab.ssh("xen1", "xenpair", "replace-disk", "data-xen1-b")
    wait_until(lab, "xen1", BOOT_LIMIT, lambda found: found["mirror"]["state"] == "whole")
    assert '"out": []' in lab.ssh("xen1", "cat", "/var/lib/xenpair/mirror.json").stdout
    assert_healthy(lab)
