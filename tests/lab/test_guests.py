"""Guests on the formed pair: the config's two, and those that are made by hand. Nothing of them is played."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from lab.campaign.audits import forgotten, ran_twice
from lab.guest import GUESTS, RAMDISK, Answer, ask, diary, heard, read_diary
from lab.pair import PROJECT, Lab, directory
from lab.volume_calls import Callers, audit
from tests.lab.conftest import FORMED_LAB, assert_healthy, forming

pytestmark = pytest.mark.lab

LIMIT = 300.0
"""Seconds for a guest to be started and to answer, under emulation."""
LOSS_LIMIT = 420.0
"""Seconds from a power cut until the guest answers from the other node: deadtime, fencing, and emulation."""
XEN1, XEN2 = "xen1", "xen2"
GROUP = "data"
BY_HAND = "192.168.132.60/24"
CREATE = f"--memory 96M --disk 8M --ramdisk {RAMDISK} --option tsc_mode=native"


@pytest.fixture(scope="module")
def pair(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A formed pair with guests: these tests' own, or the one that --lab names."""
    if name := pytestconfig.getoption("--lab"):
        yield Lab(directory(name))
        return
    if FORMED_LAB.exists():
        # Four machines at once would be too much for the host.
        Lab(FORMED_LAB).down()
    yield from forming(request, PROJECT / ".lab" / "test-guests", "guest_config_file")


@pytest.fixture(scope="module")
def lab(pair: Lab) -> Iterator[Lab]:
    """The formed pair; each test leaves both guests at home and running, and no guest ever ran twice."""
    assert_healthy(pair)
    before = {
        name: wait_for(f"{name} answers", partial(answer, pair, name, address)) for name, (_, address) in GUESTS.items()
    }
    yield pair
    for name in GUESTS:
        entries = diary(pair.ssh(XEN1, read_diary(GROUP, name)).stdout)
        assert ran_twice(entries) == []
        assert forgotten(entries, [before[name]]) == []


def guest(lab: Lab, node: str, words: str, *, typed: str = "", check: bool = True) -> str:
    """What `xenpair guest ...` prints on a node."""
    feed = f"echo {typed} | " if typed else ""
    output = lab.ssh(node, f"{feed}xenpair guest {words} 2>&1", check=check, timeout=LIMIT)
    return output.stdout


def listed(lab: Lab, node: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(guest(lab, node, "list --json"))["guests"]}


def answer(lab: Lab, name: str, address: str, node: str = XEN2) -> Answer | None:
    """What it says of itself; None where it does not answer."""
    found = heard(lab.ssh(node, ask(address), check=False).stdout)
    return found if found is not None and found.name == name else None


def wait_for(what: str, happened: Callable[[], Any], limit: float = LIMIT) -> Any:
    deadline = time.monotonic() + limit
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what}: not within {limit:.0f} s"
        time.sleep(1)
    return found


def wait_new_boot(lab: Lab, name: str, address: str, old: str, limit: float = LIMIT) -> str:
    """Until it answers as another boot than before; which one."""

    def fresh() -> str:
        found = answer(lab, name, address)
        return found.boot if found and found.boot != old else ""

    return str(wait_for(f"{name} answers anew", fresh, limit))


def boot_of(lab: Lab, name: str, address: str) -> str:
    return str(wait_for(f"{name} answers", lambda: answer(lab, name, address)).boot)


def seqno(lab: Lab) -> set[str]:
    return {lab.ssh(node, "vgs --noheadings -o vg_seqno").stdout.strip() for node in (XEN1, XEN2)}


def tell(lab: Lab, address: str, word: str) -> None:
    """Have a guest do something to itself."""
    lab.ssh(XEN2, ask(address, f"cgi-bin/do?{word}"), check=False)


WEB, WEB_AT = "web01", GUESTS["web01"][1]


def test_the_configs_guests_run_at_home_and_answer(lab: Lab) -> None:
    for name, (home, address) in GUESTS.items():
        assert boot_of(lab, name, address)
        for node in (XEN1, XEN2):
            row = listed(lab, node)[name]
            assert (row["home"], row["running_on"], row["state"]) == (home, home, "running")
            assert row["type"] == "pvh"


def test_a_guests_life_by_hand_from_the_other_node(lab: Lab) -> None:
    assert "hand01 runs on xen2" in guest(lab, XEN1, f"create hand01 --home xen2 {CREATE} --address {BY_HAND}")
    first = boot_of(lab, "hand01", BY_HAND)
    assert listed(lab, XEN1)["hand01"]["running_on"] == XEN2
    assert "address     192.168.132.60/24" in guest(lab, XEN1, "show hand01")

    assert "runs on xen2" in guest(lab, XEN1, "delete hand01", typed="hand01", check=False)
    guest(lab, XEN1, "restart hand01")
    second = wait_new_boot(lab, "hand01", BY_HAND, first)

    guest(lab, XEN1, "resize hand01 --disk 16M")
    for node in (XEN1, XEN2):
        assert lab.ssh(node, f"blockdev --getsize64 /dev/{GROUP}/hand01").stdout.strip() == str(16 << 20)
    assert "would cut off its end" in guest(lab, XEN1, "resize hand01 --disk 8M", check=False)

    assert "hand01 runs on xen1" in guest(lab, XEN1, "move hand01")
    wait_new_boot(lab, "hand01", BY_HAND, second)
    assert listed(lab, XEN2)["hand01"]["running_on"] == XEN1

    guest(lab, XEN2, "stop hand01")
    assert listed(lab, XEN1)["hand01"]["state"] == "stopped"
    assert "hand01 runs on xen2" in guest(lab, XEN1, "start hand01")
    assert boot_of(lab, "hand01", BY_HAND) not in (first, second)
    guest(lab, XEN1, "stop hand01 --force")
    assert "was to be typed" in guest(lab, XEN2, "delete hand01", typed="hand02", check=False)
    assert "hand01 is deleted" in guest(lab, XEN2, "delete hand01", typed="hand01")
    assert "hand01" not in listed(lab, XEN1)
    assert len(seqno(lab)) == 1
    lab.ssh(XEN1, f"vgck {GROUP}")


def test_a_guest_is_installed_from_a_tarball(lab: Lab) -> None:
    lab.ssh(XEN1, "mkdir -p /tmp/rootfs/etc && echo old > /tmp/rootfs/etc/hostname")
    lab.ssh(XEN1, "tar -C /tmp/rootfs -cf /tmp/rootfs.tar .")
    guest(lab, XEN1, "create tar01 --memory 64M --disk 16M --tarball /tmp/rootfs.tar --stopped")
    assert listed(lab, XEN2)["tar01"]["state"] == "stopped"
    mounted = f"mount -o ro /dev/{GROUP}/tar01 /mnt && cat /mnt/etc/hostname; umount /mnt"
    assert lab.ssh(XEN2, mounted).stdout.strip() == "tar01"
    guest(lab, XEN1, "delete tar01", typed="tar01")


def test_lvm_by_hand_is_refused_and_names_our_command(lab: Lab) -> None:
    said = lab.ssh(XEN1, f"lvcreate --size 8M --name mine {GROUP} 2>&1; echo code $?").stdout
    assert "xenpair guest create" in said
    assert "code 5" in said


def test_calls_from_both_nodes_at_once_lose_nothing(lab: Lab) -> None:
    account = Callers(lab, processes=2, calls=5).end(LIMIT)
    assert account.refused == []
    assert account.done == 20
    assert audit(lab, account) == []
    for name in account.there:
        guest(lab, XEN1, f"delete {name}", typed=name)


@pytest.mark.parametrize("word", ["reboot", "poweroff", "crash"])
def test_a_guest_that_ends_comes_back_where_it_was(lab: Lab, word: str) -> None:
    old = boot_of(lab, WEB, WEB_AT)
    tell(lab, WEB_AT, word)
    wait_new_boot(lab, WEB, WEB_AT, old)
    assert listed(lab, XEN1)[WEB]["running_on"] == XEN1


def test_a_running_guest_is_migrated_live_and_goes_on(lab: Lab) -> None:
    boot = boot_of(lab, WEB, WEB_AT)
    assert "nothing prevents" in guest(lab, XEN2, f"migrate {WEB} --check")
    assert f"{WEB} runs on xen2" in guest(lab, XEN1, f"migrate {WEB}")
    assert boot_of(lab, WEB, WEB_AT) == boot
    assert listed(lab, XEN1)[WEB]["running_on"] == XEN2
    assert f"{WEB} runs on xen1" in guest(lab, XEN1, f"migrate {WEB}")
    assert boot_of(lab, WEB, WEB_AT) == boot


def test_a_node_is_drained_and_its_guests_come_home_again(lab: Lab) -> None:
    lab.ssh(XEN1, "xenpair drain", timeout=LIMIT)
    assert {row["running_on"] for row in listed(lab, XEN1).values()} == {XEN2}
    assert lab.ssh(XEN1, "ls /run/xenpair/groups").stdout == ""
    plan = json.loads(lab.ssh(XEN1, "xenpair capacity --json", check=False).stdout)["situations"]
    assert [set(load["runs"]) for load in plan[0]["nodes"]] == [set(), set(GUESTS)]
    lab.ssh(XEN2, "xenpair rebalance", timeout=LIMIT)
    for name, (home, address) in GUESTS.items():
        assert listed(lab, XEN1)[name]["running_on"] == home
        assert boot_of(lab, name, address)
    assert lab.ssh(XEN1, "ls /run/xenpair/groups").stdout.split() == [XEN1]


def test_a_dead_nodes_guest_answers_from_the_other_and_nothing_bounces_when_it_returns(lab: Lab) -> None:
    boots = {name: boot_of(lab, name, address) for name, (_, address) in GUESTS.items()}
    lab.kill(XEN1)
    taken_over = wait_new_boot(lab, WEB, WEB_AT, boots[WEB], LOSS_LIMIT)
    assert listed(lab, XEN2)[WEB]["running_on"] == XEN2
    lab.start(XEN1)
    lab.wait(XEN1)
    assert_healthy(lab)
    assert boot_of(lab, WEB, WEB_AT) == taken_over
    assert boot_of(lab, "db01", GUESTS["db01"][1]) == boots["db01"]
    assert {row["running_on"] for row in listed(lab, XEN1).values()} == {XEN2}
