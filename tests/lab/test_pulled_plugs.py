"""On UEFI, from a stick: plugs are pulled, while a disk is written, in first boot, and on the formed pair.

Nothing half-written boots, nobody's data forks, and the pair comes back. The second server has two disks for each one
of the first: its system and what is below DRBD are mirrored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from config.door import write_file
from lab.console import Stage
from lab.machine import disk_file
from lab.origin import Origin
from lab.pair import PROJECT, Lab
from tests.lab.conftest import (
    BOOT_LIMIT,
    FORMED_LAB,
    assert_healthy,
    assert_installed,
    fresh_lab,
    reset,
    status,
    wait_for_step,
    wait_until,
)

pytestmark = pytest.mark.lab

FENCING_LIMIT = 180.0
"""Seconds from the loss of a node until the other one has decided: 10 to notice, 21 of delay, and emulation."""

NODES = ("xen1", "xen2")
SPARE = "spare"
"""A guest that never runs."""
MIRRORS = ("mirror", "system_mirror")
"""Below DRBD and of the system, in a node's status."""


def mirrored(config_file: Path) -> Path:
    """A copy of that config in which the second node's disks are mirrored."""
    document = yaml.safe_load(config_file.read_text())
    disks = {purpose: {**document["storage"][purpose], "raid1": True} for purpose in ("system", "backing")}
    document["nodes"][1]["disks"] = disks
    target = config_file.with_name("test-plugs.yaml")
    write_file(target, yaml.safe_dump(document, sort_keys=False))
    return target


@pytest.fixture(scope="module")
def lab(config_file: Path, small_config_file: Path, image: Path) -> Iterator[Lab]:
    """A lab of these tests' own, with empty disks; each test leaves the pair healthy for the next one."""
    if FORMED_LAB.exists():
        # Four machines at once would be too much for the host.
        Lab(FORMED_LAB).down()
    where, origin = PROJECT / ".lab" / "test-plugs", Origin.read("usb", image.parent)
    lab = fresh_lab(where, mirrored(small_config_file), origin, "uefi", config_file.parent / "secrets")
    try:
        yield lab
    finally:
        reset(lab)


def write(lab: Lab, node: str, text: str) -> None:
    """Have a line written past all caches; once the storage has acknowledged it, a mark of that name appears."""
    command = f"echo {text} | dd of=/dev/data/kept oflag=direct,sync bs=512 conv=sync && touch /run/{text}"
    lab.ssh(node, f"setsid sh -c '{command}' >/dev/null 2>&1 </dev/null &")


def acknowledged(lab: Lab, node: str, text: str) -> bool:
    return lab.ssh(node, f"test -e /run/{text}", check=False).returncode == 0


def wait_acknowledged(lab: Lab, node: str, text: str) -> None:
    deadline = time.monotonic() + FENCING_LIMIT
    while not acknowledged(lab, node, text):
        assert time.monotonic() < deadline, f"{node} never wrote {text!r}: {status(lab, node)}"
        time.sleep(1)


def assert_kept(lab: Lab, text: str) -> None:
    for node in NODES:
        assert text in lab.ssh(node, "dd if=/dev/data/kept iflag=direct bs=512 count=1 status=none").stdout


def power_on_seen(lab: Lab, node: str, boot: int) -> None:
    """Until somebody has switched the node on again after that boot."""
    deadline = time.monotonic() + FENCING_LIMIT
    while True:
        state = lab.state()
        if state.boots[node] != boot and state.nodes[node].alive():
            return
        assert time.monotonic() < deadline, f"nobody switched {node} on again"
        time.sleep(0.5)


def test_a_half_written_disk_does_not_boot_and_is_installed_again(lab: Lab) -> None:
    lab.start()
    wait_for_step(lab, "xen2", "write: running")
    lab.kill("xen2")
    lab.start("xen2")
    # Its disk is the first that the firmware tries.
    lab.wait("xen2", until=Stage.INSTALLER, timeout=BOOT_LIMIT)
    log = (lab.directory / "xen2.log").read_bytes()[lab.state().boots["xen2"] :]
    assert b"Xen version" not in log
    # Installed, they are powered on again by whoever waits.
    lab.wait(until=Stage.XEN, timeout=BOOT_LIMIT)


def test_first_boot_goes_on_after_a_power_cut(lab: Lab) -> None:
    # Its partition and its metadata are made or being made, and nobody has been told.
    wait_for_step(lab, "xen2", "disks")
    lab.kill("xen2")
    lab.start("xen2")
    lab.wait(timeout=BOOT_LIMIT)

    for node in NODES:
        assert lab.ssh(node, "test -d /sys/firmware/efi && cat /sys/hypervisor/type").stdout.strip() == "xen"
    assert_healthy(lab)
    assert_installed(lab)
    journal = [json.loads(line) for line in lab.ssh("xen2", "cat /var/lib/xenpair/journal.jsonl").stdout.splitlines()]
    assert "resumed" in (lab.directory / "xen2.log").read_text(errors="replace")
    # No effect was doubled: one name for the partition, and one partition of that name on the disk.
    for half, disk in (("a", "/dev/vdb"), ("b", "/dev/vdd")):
        key = f"{half}.partuuid"
        (partuuid,) = {entry["detail"][key] for entry in journal if key in entry["detail"]}
        assert lab.ssh("xen2", f"lsblk -nro PARTUUID {disk}").stdout.split() == [partuuid]
    lab.ssh("xen1", "/usr/sbin/lvcreate --yes --wipesignatures y --size 8M --name kept data && sync /dev/drbd0")
    lab.ssh("xen2", "lvchange --activate y data/kept")


def test_a_server_goes_on_with_one_half_of_each_mirror_and_takes_blank_disks(lab: Lab) -> None:
    for kind in MIRRORS:
        assert status(lab, "xen2")[kind]["state"] in ("whole", "copying")
        assert status(lab, "xen1")[kind]["state"] == "none"
    assert lab.ssh("xen2", "drbdadm sh-ll-dev r0").stdout.startswith("/dev/disk/by-id/md-uuid-")
    assert "mdmonitor.service" in lab.ssh("xen2", "systemctl list-units --state=active 'md*'").stdout
    wait_until(lab, "xen2", BOOT_LIMIT, lambda found: {found[kind]["state"] for kind in MIRRORS} == {"whole"})

    # Nothing else has had a disk flush its cache since it was made.
    lab.ssh("xen2", f"xenpair guest create {SPARE} --memory 96M --disk 8M --stopped")
    lab.kill()
    # At the next power-on there are blank disks of the same serials: the one that booted, and the second below DRBD.
    for file in (disk_file("xen2", "system"), disk_file("xen2", "backing", "-b")):
        (lab.directory / file).unlink()
    lab.start()
    lab.wait(timeout=BOOT_LIMIT)
    assert SPARE in lab.ssh("xen1", "xenpair guest list").stdout
    found = status(lab, "xen2")
    assert found["health"] == "degraded"
    assert (found["mirror"]["state"], found["mirror"]["lost"]) == ("degraded", ["data-xen2-b"])
    assert (found["system_mirror"]["state"], found["system_mirror"]["lost"]) == ("degraded", ["system-xen2-a"])
    lab.ssh("xen2", "xenpair replace-disk data-xen2-b")
    lab.ssh("xen2", "xenpair replace-disk system-xen2-a", timeout=BOOT_LIMIT)
    assert status(lab, "xen2")["system_mirror"]["state"] == "whole"
    wait_until(lab, "xen2", BOOT_LIMIT, lambda found: found["mirror"]["state"] == "whole")
    assert '"out": []' in lab.ssh("xen2", "cat /var/lib/xenpair/mirror.json").stdout
    # What UEFI starts, and what a BIOS starts before and after it has found its own partition.
    same = "cmp /dev/vda2 /dev/vdc2 && cmp /dev/vda1 /dev/vdc1 && cmp -n 440 /dev/vda /dev/vdc"
    assert lab.ssh("xen2", same).stdout == ""


@pytest.mark.long
def test_the_new_disk_of_a_system_boots_alone(lab: Lab) -> None:
    lab.kill()
    (lab.directory / disk_file("xen2", "system", "-b")).unlink()
    lab.start()
    lab.wait(timeout=BOOT_LIMIT)
    assert status(lab, "xen2")["system_mirror"]["lost"] == ["system-xen2-b"]
    lab.ssh("xen2", "xenpair replace-disk system-xen2-b", timeout=BOOT_LIMIT)
    assert_healthy(lab)


def test_a_cut_link_freezes_both_until_one_is_proven_off(lab: Lab) -> None:
    for node in NODES:
        lab.bmc(node, "lies")
    lab.cut("cluster")
    for node in NODES:
        found = wait_until(lab, node, FENCING_LIMIT, lambda s: s["fencing"]["state"] == "holding")
        assert found["health"] == "degraded"
        assert found["drbd"]["suspended"]
        assert "still says on" in found["fencing"]["reason"]
        write(lab, node, f"written-by-{node}")
    boot = lab.state().boots["xen2"]
    time.sleep(5)
    assert not any(acknowledged(lab, node, f"written-by-{node}") for node in NODES)

    lab.bmc("xen2", "ok")
    wait_acknowledged(lab, "xen1", "written-by-xen1")
    assert status(lab, "xen1")["fencing"]["state"] == "proven"
    lab.bmc("xen1", "ok")
    # What fenced it switches it on again; without the cable it must not become Primary.
    power_on_seen(lab, "xen2", boot)
    wait_for_step(lab, "xen2", "xen1 is not there")
    lab.heal("cluster")
    lab.wait("xen2", timeout=BOOT_LIMIT)
    assert_healthy(lab)
    assert_kept(lab, "written-by-xen1")


def test_a_dead_server_whose_bmc_is_dead_too_is_confirmed_by_hand_and_replaced(lab: Lab) -> None:
    lab.bmc("xen2", "unreachable")
    lab.kill("xen2")
    write(lab, "xen1", "by-word")
    found = wait_until(lab, "xen1", FENCING_LIMIT, lambda s: s["fencing"]["state"] == "holding")
    assert found["drbd"]["suspended"]
    assert not acknowledged(lab, "xen1", "by-word")
    confirm = "xenpair fence --confirm-peer-is-off xen2"
    assert lab.ssh("xen1", f"echo yes | {confirm}", check=False).returncode == 1
    lab.ssh("xen1", f"echo xen2 is off | {confirm}")
    wait_acknowledged(lab, "xen1", "by-word")

    lab.bmc("xen2", "ok")
    lab.renew("xen2")
    lab.ssh("xen1", "xenpair replace xen2")
    each_second = "while echo on | dd of=/dev/data/kept seek=1 oflag=direct,sync bs=512 conv=sync; do sleep 1; done"
    lab.ssh("xen1", f"setsid sh -c 'echo $$ > /run/writer; {each_second}' >/dev/null 2>&1 </dev/null &")
    lab.start("xen2")
    lab.wait("xen2", timeout=BOOT_LIMIT)
    assert_healthy(lab)
    # The survivor's guests never stop: its writer neither ended nor met an error.
    lab.ssh("xen1", "kill $(cat /run/writer)")
    lab.ssh("xen2", "lvchange --activate y data/kept")
    assert_kept(lab, "by-word")


def write_behind(lab: Lab, node: str, volume: str, text: str) -> None:
    """A line 4 MiB into a volume: in a piece of DRBD's activity log that no other volume shares."""
    lab.ssh(node, f"echo {text} | dd of=/dev/data/{volume} oflag=direct,sync bs=4096 seek=1024 conv=sync status=none")


def content(lab: Lab, node: str, volume: str) -> str:
    """What a node's own disk has of a volume, also while nothing can be read through DRBD."""
    return lab.ssh(node, f"xenpair split-brain --copy {volume} | tr -d '\\0'").stdout


def test_a_split_brain_is_frozen_shown_and_settled_by_typed_words(lab: Lab) -> None:
    for volume in ("only1", "only2"):
        # Nothing is written to the new volumes yet.
        lab.ssh("xen1", f"/usr/sbin/lvcreate --yes --zero n --wipesignatures n --size 8M --name {volume} data")
        lab.ssh("xen2", f"lvchange --activate y data/{volume}")
    for node in NODES:
        lab.bmc(node, "unreachable")
    lab.cut("cluster")
    for node in NODES:
        wait_until(lab, node, FENCING_LIMIT, lambda s: s["fencing"]["state"] == "holding")
    # Two wrong words: each is told that the other one is off.
    for node, peer in (NODES, NODES[::-1]):
        lab.ssh(node, f"echo {peer} is off | xenpair fence --confirm-peer-is-off {peer}")
        write(lab, node, f"parted-{node}")
        wait_acknowledged(lab, node, f"parted-{node}")
    write_behind(lab, "xen1", "only1", "of-xen1")
    write_behind(lab, "xen2", "only2", "of-xen2")
    for node in NODES:
        lab.bmc(node, "ok")
    lab.heal("cluster")

    for node in NODES:
        found = wait_until(lab, node, FENCING_LIMIT, lambda s: s["drbd"]["suspended"])
        assert found["health"] == "failed"
        assert found["split_brain"]["state"] == "detected"
        assert "`xenpair split-brain`" in found["split_brain"]["reason"]
        assert content(lab, node, "kept").startswith(f"parted-{node}")
        shown = json.loads(lab.ssh(node, "xenpair split-brain --json").stdout)
        assert shown["split_brain"]
        volumes = {volume["name"]: volume for volume in shown["volumes"]}
        assert volumes["only1"]["last"] == ["xen1"]
        assert volumes["only2"]["last"] == ["xen2"]
        assert sorted(volumes["kept"]["last"]) == ["xen1", "xen2"]
        assert volumes["only2"]["written"]["xen1"] == {"least": 0, "most": 0}

    words = "discard what was written on xen2"
    assert lab.ssh("xen2", "echo yes | xenpair split-brain --keep xen1", check=False).returncode == 1
    assert content(lab, "xen2", "kept").startswith("parted-xen2")
    lab.ssh("xen1", f"echo {words} | xenpair split-brain --keep xen1", timeout=BOOT_LIMIT)
    assert_healthy(lab)
    assert_kept(lab, "parted-xen1")
    for node in NODES:
        assert "of-xen1" in content(lab, node, "only1")
        assert "of-xen2" not in content(lab, node, "only2")
    assert words in lab.ssh("xen1", "journalctl --boot --identifier xenpair --no-pager").stdout
