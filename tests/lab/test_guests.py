"""Guests on the formed pair: the config's two, and those that are made by hand. Nothing of them is played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from lab.campaign.audits import forgotten, ran_twice
from lab.guest import GUESTS, RAMDISK, ask, diary, read_diary
from lab.pair import Lab
from lab.volume_calls import Callers, audit, seqno
from tests.lab.conftest import GUEST_LIMIT, answer, assert_healthy, wait_for

pytestmark = pytest.mark.lab

LOSS_LIMIT = 420.0
"""Seconds from a power cut until the guest answers from the other node: deadtime, fencing, and emulation."""
XEN1, XEN2 = "xen1", "xen2"
GROUP = "data"
HAND, HAND_AT = "hand01", "192.168.132.60/24"
IMAGE, IMAGE_AT = "image01", "192.168.132.61/24"


@pytest.fixture(scope="module")
def lab(formed_lab: Lab | None) -> Iterator[Lab]:
    """The formed pair; each test leaves both guests at home and running, and no guest ever ran twice."""
    if formed_lab is None:
        pytest.skip("these tests stop and kill guests, which are the lab's and nobody else's")
    assert_healthy(formed_lab)
    # Whoever had the pair before may have left them anywhere.
    formed_lab.ssh(XEN1, "xenpair rebalance", timeout=GUEST_LIMIT)
    before = {
        name: wait_for(f"{name} answers", partial(answer, formed_lab, name, address))
        for name, (_, address) in GUESTS.items()
    }
    yield formed_lab
    for name in GUESTS:
        entries = diary(formed_lab.ssh(XEN1, read_diary(GROUP, name)).stdout)
        assert ran_twice(entries) == []
        assert forgotten(entries, [before[name]]) == []


def guest(lab: Lab, node: str, words: str, *, typed: str = "", check: bool = True) -> str:
    """What `xenpair guest ...` prints on a node."""
    feed = f"echo {typed} | " if typed else ""
    output = lab.ssh(node, f"{feed}xenpair guest {words} 2>&1", check=check, timeout=GUEST_LIMIT)
    return output.stdout


def listed(lab: Lab, node: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(guest(lab, node, "list --json"))["guests"]}


def wait_new_boot(lab: Lab, name: str, address: str, old: str, limit: float = GUEST_LIMIT) -> str:
    """Until it answers as another boot than before; which one."""

    def fresh() -> str:
        found = answer(lab, name, address)
        return found.boot if found and found.boot != old else ""

    return str(wait_for(f"{name} answers anew", fresh, limit))


def boot_of(lab: Lab, name: str, address: str) -> str:
    return str(wait_for(f"{name} answers", lambda: answer(lab, name, address)).boot)


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


@pytest.mark.long
def test_the_life_of_a_pv_guest_from_a_tarball(lab: Lab) -> None:
    lab.ssh(XEN2, "mkdir -p /run/rootfs/etc /run/rootfs/usr && echo old >/run/rootfs/etc/hostname")
    lab.ssh(XEN2, "tar -C /run/rootfs -czf /run/rootfs.tar.gz . && rm -r /run/rootfs")
    words = f"--kind pv --memory 96M --disk 16M --tarball /run/rootfs.tar.gz --ramdisk {RAMDISK} --stopped"
    assert f"{HAND} is there, and stopped" in guest(lab, XEN2, f"create {HAND} {words} --address {HAND_AT}")
    mounted = f"mount -o ro /dev/{GROUP}/{HAND} /mnt && cat /mnt/etc/hostname; umount /mnt"
    assert lab.ssh(XEN1, mounted).stdout.strip() == HAND
    guest(lab, XEN2, f"resize {HAND} --disk 24M")
    for node in (XEN1, XEN2):
        assert lab.ssh(node, f"blockdev --getsize64 /dev/{GROUP}/{HAND}").stdout.strip() == str(24 << 20)
    assert "would cut off its end" in guest(lab, XEN2, f"resize {HAND} --disk 16M", check=False)

    assert f"{HAND} runs on xen2" in guest(lab, XEN1, f"start {HAND}")
    first = boot_of(lab, HAND, HAND_AT)
    assert f"address     {HAND_AT}" in guest(lab, XEN2, f"show {HAND}")
    assert "runs on xen2" in guest(lab, XEN2, f"delete {HAND}", typed=HAND, check=False)
    assert "a PV guest" in guest(lab, XEN2, f"migrate {HAND}", check=False)
    guest(lab, XEN2, f"restart {HAND}")
    second = wait_new_boot(lab, HAND, HAND_AT, first)
    assert f"{HAND} runs on xen1" in guest(lab, XEN1, f"move {HAND}")
    wait_new_boot(lab, HAND, HAND_AT, second)
    assert listed(lab, XEN2)[HAND]["running_on"] == XEN1

    guest(lab, XEN2, f"stop {HAND}")
    assert listed(lab, XEN1)[HAND]["state"] == "stopped"
    assert "was to be typed" in guest(lab, XEN1, f"delete {HAND}", typed="hand02", check=False)
    assert f"{HAND} is deleted" in guest(lab, XEN2, f"delete {HAND}", typed=HAND)
    assert HAND not in listed(lab, XEN1)
    assert len({seqno(lab, node) for node in (XEN1, XEN2)}) == 1
    lab.ssh(XEN1, f"vgck {GROUP}")


@pytest.mark.long
def test_an_images_system_boots_the_kernel_that_it_holds(lab: Lab) -> None:
    own_line = f"console=hvc0 ip={IMAGE_AT.partition('/')[0]}:::255.255.255.0:{IMAGE}:eth0:off"
    menu = f"linux /boot/vmlinuz {own_line}\\ninitrd /boot/initrd\\nboot\\n"
    for command in (
        "mkdir -p /run/image/boot/grub",
        "cp /boot/vmlinuz-$(uname -r) /run/image/boot/vmlinuz",
        f"cp /var/lib/xenpair/files/{RAMDISK} /run/image/boot/initrd",
        f"printf '{menu}' >/run/image/boot/grub/grub.cfg",
        "mkfs.ext4 -q -d /run/image /run/image.raw 32M",
        "qemu-img convert -O qcow2 /run/image.raw /run/image.qcow2",
    ):
        lab.ssh(XEN2, command, timeout=GUEST_LIMIT)
    words = "--memory 128M --disk 32M --image /run/image.qcow2 --boot guest --option tsc_mode=native"
    assert f"{IMAGE} runs on xen2" in guest(lab, XEN2, f"create {IMAGE} {words}")
    assert boot_of(lab, IMAGE, IMAGE_AT)
    guest(lab, XEN2, f"stop {IMAGE} --force")
    guest(lab, XEN2, f"delete {IMAGE}", typed=IMAGE)
    lab.ssh(XEN2, "rm -r /run/image /run/image.*")


def test_lvm_by_hand_is_refused_and_names_our_command(lab: Lab) -> None:
    said = lab.ssh(XEN1, f"lvcreate --size 8M --name mine {GROUP} 2>&1; echo code $?").stdout
    assert "xenpair guest create" in said
    assert "code 5" in said


@pytest.mark.long
def test_calls_from_both_nodes_at_once_lose_nothing(lab: Lab) -> None:
    account = Callers(lab, processes=1, calls=3).end(GUEST_LIMIT)
    assert account.refused == []
    assert account.done == 6
    assert audit(lab, account) == []
    for name in account.there:
        guest(lab, XEN1, f"delete {name}", typed=name)


def test_guests_that_end_are_started_again_where_they_were(lab: Lab) -> None:
    boots = {name: boot_of(lab, name, address) for name, (_, address) in GUESTS.items()}
    for (_, address), word in zip(GUESTS.values(), ("crash", "poweroff"), strict=True):
        tell(lab, address, word)
    for name, (home, address) in GUESTS.items():
        wait_new_boot(lab, name, address, boots[name])
        assert listed(lab, XEN1)[name]["running_on"] == home


def test_a_guest_is_rebooted_on_its_console_from_the_other_node(lab: Lab) -> None:
    old = boot_of(lab, WEB, WEB_AT)
    typing = f"(sleep 8; echo reboot; sleep 8) | timeout 60 xenpair guest console {WEB}"
    assert f"lab guest {WEB} {old} answers" in lab.ssh(XEN2, typing, check=False).stdout
    wait_new_boot(lab, WEB, WEB_AT, old)
    assert listed(lab, XEN1)[WEB]["running_on"] == XEN1
    # What attached to the console there is gone with this end, and the next one gets in.
    assert lab.ssh(XEN1, "pgrep -x xenconsole", check=False).stdout == ""


def test_a_running_guest_is_migrated_live_and_goes_on(lab: Lab) -> None:
    boot = boot_of(lab, WEB, WEB_AT)
    assert "nothing prevents" in guest(lab, XEN2, f"migrate {WEB} --check")
    assert f"{WEB} runs on xen2" in guest(lab, XEN1, f"migrate {WEB}")
    assert boot_of(lab, WEB, WEB_AT) == boot
    assert listed(lab, XEN1)[WEB]["running_on"] == XEN2
    assert f"{WEB} runs on xen1" in guest(lab, XEN1, f"migrate {WEB}")
    assert boot_of(lab, WEB, WEB_AT) == boot


def test_a_node_is_drained_rebooted_and_its_guests_come_home_again(lab: Lab) -> None:
    boots = {name: boot_of(lab, name, address) for name, (_, address) in GUESTS.items()}
    lab.ssh(XEN1, "xenpair drain", timeout=GUEST_LIMIT)
    assert {row["running_on"] for row in listed(lab, XEN1).values()} == {XEN2}
    assert lab.ssh(XEN1, "ls /run/xenpair/groups").stdout == ""
    plan = json.loads(lab.ssh(XEN1, "xenpair capacity --json", check=False).stdout)["situations"]
    assert [set(load["runs"]) for load in plan[0]["nodes"]] == [set(), set(GUESTS)]
    lab.reboot(XEN1)
    lab.wait(XEN1)
    assert_healthy(lab)
    lab.ssh(XEN2, "xenpair rebalance", timeout=GUEST_LIMIT)
    at = {name: row["running_on"] for name, row in listed(lab, XEN1).items()}
    assert at == {name: home for name, (home, _) in GUESTS.items()}
    # In all this neither of them stopped.
    assert boots == {name: boot_of(lab, name, address) for name, (_, address) in GUESTS.items()}
    assert lab.ssh(XEN1, "ls /run/xenpair/groups").stdout.split() == [XEN1]


def refuse_next_peer(lab: Lab, node: str) -> None:
    """Have DRBD refuse the next proof of the secret, as it did once where both had the same: it gives up then."""
    conf = "/etc/drbd.d/xenpair.res"
    spoilt = f"cp -a {conf} /run/right.res && sed -i 's/shared-secret \"/&wrong/' {conf} && drbdadm adjust r0"
    lab.ssh(node, f"{spoilt}; e=$?; mv /run/right.res {conf}; exit $e")


def test_a_dead_nodes_guest_answers_from_the_other_and_nothing_bounces_when_it_returns(lab: Lab) -> None:
    boots = {name: boot_of(lab, name, address) for name, (_, address) in GUESTS.items()}
    refuse_next_peer(lab, XEN2)
    lab.kill(XEN1)
    taken_over = wait_new_boot(lab, WEB, WEB_AT, boots[WEB], LOSS_LIMIT)
    assert listed(lab, XEN2)[WEB]["running_on"] == XEN2
    lab.start(XEN1)
    lab.wait(XEN1)
    assert_healthy(lab)
    assert "Authentication of peer failed" in lab.ssh(XEN2, "journalctl --boot --dmesg --grep 'of peer failed'").stdout
    assert boot_of(lab, WEB, WEB_AT) == taken_over
    assert boot_of(lab, "db01", GUESTS["db01"][1]) == boots["db01"]
    assert {row["running_on"] for row in listed(lab, XEN1).values()} == {XEN2}
