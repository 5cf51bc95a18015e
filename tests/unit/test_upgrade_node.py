"""`xenpair upgrade` on a node that first boot has formed: what it finds and does, leaves for a second call, refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.findings import ConfigError
from config.model import Cluster
from config.upgrade import Outcome
from firstboot.errors import GuestError, UpgradeError
from firstboot.guests.pair import Pair
from firstboot.plan import upgrade as plan
from firstboot.upgrading import owed, package, prospect, upgrade
from tests.unit import fake_node
from tests.unit.fake_node import FakeNode, install

TIMING, SLOWER = "deadtime: 20", "deadtime: 24"
DNS = ("bridge: xenbr0 ", "bridge: xenbr0\n  dns: [192.168.132.9]\n  #")
MEMORY = ("memory: 1536M", "memory: 1792M")
CONFIG = fake_node.EXAMPLE.replace(", min_size: 4M", "")
"""A backing disk of any size has room for guests."""
GRUB = 'GRUB_CMDLINE_XEN="dom0_mem=1536M,max:1536M com1=115200,8n1 console=com1,vga ucode=scan"\n'


class Node(FakeNode):
    """A formed node, with what upgrades start beside what first boot does."""

    def _programs(self, argv: Sequence[str], stdin: str) -> dict[str, Callable[[], Any]]:
        words = (
            "update-grub",
            "systemctl daemon-reload",
            "systemctl reload ssh.service",
            "systemctl restart heartbeat.service",
            "systemctl try-restart xenpair-guests.service",
            "ssh -T",
            "drbdadm adjust r0",
        )
        return {**super()._programs(argv, stdin), **dict.fromkeys(words, str)}


class Rig:
    """The node, and all that an upgrade had done to it, in order."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node, self.places = node, node.places
        self.directory = directory
        self.version = "1"
        self.health = "healthy"
        self.drain_fails = False
        self.stop_before = ""
        self.done: list[str] = []

    def boot(self, name: str) -> None:
        path = self.places.at("proc/sys/kernel/random/boot_id")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name + "\n")

    def record(self, what: str) -> None:
        if self.stop_before and what.startswith(self.stop_before):
            raise KeyboardInterrupt
        if what == "drain" and self.drain_fails:
            raise GuestError("xen2 has 10M free")
        self.done.append(what)

    def install(self, offered: Path) -> None:
        self.record("install")
        self.version = package.version_of(offered)

    def config(self, *changed: str) -> Path:
        """The example with a text replaced."""
        text = CONFIG
        for old, new in zip(changed[::2], changed[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        file = self.directory / "cluster.yaml"
        file.write_text(text)
        return file

    def look(self, *changed: str, version: str = "1") -> prospect.Prospect:
        return prospect.prospect(self.places, Path(version), self.config(*changed))

    def upgrade(self, *changed: str, version: str = "1", back: bool = False) -> Outcome:
        self.node.programs.clear()
        return upgrade.upgrade(self.look(*changed, version=version), self.done.append, back=back)


@pytest.fixture
def rig(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Rig:
    node = Node(tmp_path / "root", cluster, CONFIG)
    install(node, monkeypatch)
    node.first_boot()
    node.places.config.chmod(0o600)
    grub = node.places.at(plan.GRUB)
    grub.parent.mkdir(parents=True)
    grub.write_text(GRUB)
    rig = Rig(node, tmp_path)
    rig.boot("first")
    replaced: dict[str, object] = {
        "package.installed": lambda: rig.version,
        "package.version_of": str,
        "package.missing": lambda _: "",
        "package.keep": lambda file: file.write_text(rig.version),
        "package.install": rig.install,
        "upgrade.node_status.status_of": lambda *_: SimpleNamespace(health=rig.health),
        "upgrade.node_status.as_text": lambda _: "xen1: degraded",
        "upgrade.maintenance.drain": lambda *_: rig.record("drain"),
        "upgrade.maintenance.rebalance": lambda *_: rig.record("rebalance"),
        "upgrade.registry": lambda _: [],
    }
    for target, value in replaced.items():
        monkeypatch.setattr(f"firstboot.upgrading.{target}", value)
    monkeypatch.setattr(Pair, "lock", lambda *_, **__: nullcontext())
    return rig


def text(rig: Rig, path: str) -> str:
    return rig.places.at(path).read_text()


def test_a_formed_node_is_found_as_its_own_config_and_package_have_it(rig: Rig) -> None:
    found = rig.look().plan
    assert found.nothing_to_do
    assert rig.upgrade() == Outcome(node="xen1")
    assert rig.done == []


def test_another_name_server_is_in_force_at_once_and_no_guest_moves(rig: Rig) -> None:
    found = rig.look(*DNS).plan
    assert set(found.files) == {"etc/resolv.conf", "etc/xenpair/cluster.yaml"}
    assert not found.moves_guests
    rig.upgrade(*DNS)
    assert "nameserver 192.168.132.9" in text(rig, "etc/resolv.conf")
    assert "dns: [192.168.132.9]" in text(rig, "etc/xenpair/cluster.yaml")
    assert rig.places.config.stat().st_mode & 0o777 == 0o600
    assert rig.look(*DNS).plan.nothing_to_do


def test_another_package_is_installed_and_both_supervisors_begin_anew(rig: Rig) -> None:
    assert not rig.look(version="2").plan.moves_guests
    rig.upgrade(version="2")
    assert "install" in rig.done
    assert "drain" not in rig.done
    renewed = [line for line in rig.node.programs if "try-restart xenpair-guests" in line]
    assert len(renewed) == 2
    assert " xen2 " in renewed[1]
    assert rig.look(version="2").plan.nothing_to_do


@pytest.mark.parametrize(
    ("changed", "program"),
    [
        (("max_rate: 300M", "max_rate: 100M"), "drbdadm adjust r0"),
        (("bridge: xenbr0 ", "bridge: xenbr0\n  join_port: 7701\n  #"), "nft -f /etc/nftables.conf"),
        (("bridge: xenbr0 ", "bridge: xenbr0\n  gateway: 192.168.132.254\n  #"), "networkctl reload"),
    ],
)
def test_what_reads_a_file_is_told_of_it(rig: Rig, changed: tuple[str, str], program: str) -> None:
    rig.upgrade(*changed)
    assert program in rig.node.programs
    assert "drain" not in rig.done


def test_who_was_not_told_by_an_interrupted_call_is_told_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = ("max_rate: 300M", "max_rate: 100M")

    def cut(resource: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("firstboot.upgrading.upgrade.storage.adjust", cut)
        with pytest.raises(KeyboardInterrupt):
            rig.upgrade(*rate)
    assert "c-max-rate 100M" in text(rig, "etc/drbd.d/xenpair.res")
    rig.upgrade(*rate)
    assert "drbdadm adjust r0" in rig.node.programs
    assert rig.look(*rate).plan.nothing_to_do


def test_the_other_nodes_bmc_is_fencings_next_target(rig: Rig) -> None:
    rig.upgrade("192.168.132.242", "192.168.132.243")
    assert json.loads(text(rig, "etc/xenpair/fencing.json"))["bmc"]["address"] == "192.168.132.243"
    assert rig.places.fencing.stat().st_mode & 0o777 == 0o600


def test_heartbeat_is_restarted_while_the_guests_are_on_the_peer(rig: Rig) -> None:
    rig.upgrade(TIMING, SLOWER, version="2")
    assert [word for word in rig.done if word in ("drain", "install", "rebalance")] == ["drain", "install", "rebalance"]
    assert "systemctl restart heartbeat.service" in rig.node.programs
    assert "deadtime 24" in text(rig, "etc/ha.d/ha.cf")


def test_guests_that_cannot_move_stop_it_before_anything_changes(rig: Rig) -> None:
    rig.drain_fails = True
    with pytest.raises(GuestError):
        rig.upgrade(TIMING, SLOWER, version="2")
    assert rig.version == "1"
    assert "deadtime 20" in text(rig, "etc/ha.d/ha.cf")


def test_dom0s_memory_waits_for_a_reboot_and_the_second_call_brings_the_guests_home(rig: Rig) -> None:
    assert rig.upgrade(*MEMORY).reboot == "Xen gives dom0 its memory (1792M) at boot"
    assert "dom0_mem=1792M,max:1792M com1=115200" in text(rig, plan.GRUB)
    assert "update-grub" in rig.node.programs
    assert rig.done == ["drain"]
    # Asked again before the reboot, it still wants it.
    assert rig.look(*MEMORY).plan.reboot
    rig.boot("second")
    assert not rig.look(*MEMORY).plan.reboot
    assert rig.upgrade(*MEMORY).reboot == ""
    assert rig.done == ["drain", "rebalance"]
    assert rig.look(*MEMORY).plan.nothing_to_do


@pytest.mark.parametrize("stop", ["drain", "install", "rebalance"])
def test_interrupted_anywhere_the_same_call_goes_on(rig: Rig, stop: str) -> None:
    rig.stop_before = stop
    with pytest.raises(KeyboardInterrupt):
        rig.upgrade(TIMING, SLOWER, version="2")
    rig.stop_before = ""
    assert rig.look(TIMING, SLOWER, version="2").plan.unfinished
    rig.upgrade(TIMING, SLOWER, version="2")
    assert rig.done[-1] == "rebalance"
    assert rig.version == "2"
    assert "deadtime 24" in text(rig, "etc/ha.d/ha.cf")
    assert rig.look(TIMING, SLOWER, version="2").plan.nothing_to_do
    # What is kept for going back is what was there before the first call, not half of this upgrade.
    assert (rig.places.back / "package.deb").read_text() == "1"
    assert "deadtime: 20" in (rig.places.back / "cluster.yaml").read_text()


def test_what_was_there_before_can_be_had_back_on_a_pair_that_is_not_healthy(rig: Rig) -> None:
    rig.upgrade(*DNS, version="2")
    rig.health = "degraded"
    rig.upgrade(version="1", back=True)
    assert rig.version == "1"
    assert "nameserver" not in text(rig, "etc/resolv.conf")
    assert (rig.places.back / "package.deb").read_text() == "1"


def test_a_pair_that_is_not_healthy_is_left_alone(rig: Rig) -> None:
    rig.health = "degraded"
    with pytest.raises(UpgradeError, match="not healthy"):
        rig.upgrade(*DNS, version="2")
    assert rig.version == "1"
    assert not rig.places.upgrade.exists()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (("volume_group: data", "volume_group: disks"), "storage.volume_group"),
        (("name: xen2", "name: xen3"), "nodes.name"),
        (("password: secret:bmc-xen2", "password: secret:bmc-new"), "password"),
        (
            (
                "guests: []",
                "guests: [{name: a, home: xen1, memory: 64M, disk: 2M, install: {tarball: a.tar}}]",
            ),
            "var/lib/xenpair/files/a.tar is not there",
        ),
    ],
)
def test_what_cannot_change_is_refused_with_its_name_and_nothing_changes(
    rig: Rig, changed: tuple[str, str], field: str
) -> None:
    before = {path: path.read_bytes() for path in rig.places.root.rglob("*") if path.is_file()}
    with pytest.raises(UpgradeError, match="nothing was changed") as e:
        rig.upgrade(*changed, version="2")
    assert field in str(e.value)
    assert {path: path.read_bytes() for path in rig.places.root.rglob("*") if path.is_file()} == before
    assert rig.done == []


def test_a_node_whose_boot_loader_is_the_administrators_refuses_another_dom0_memory(rig: Rig) -> None:
    rig.places.at(plan.GRUB).unlink()
    assert rig.look().plan.nothing_to_do
    with pytest.raises(UpgradeError, match="says nothing of it"):
        rig.upgrade(*MEMORY)


def test_a_package_that_needs_others_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firstboot.upgrading.package.missing", lambda _: "python3-new")
    with pytest.raises(UpgradeError, match="needs more than is installed: python3-new"):
        rig.upgrade(version="2")


def test_a_file_that_nodes_cannot_have_differently_is_refused(rig: Rig) -> None:
    rig.places.at("etc/ha.d/authkeys").write_text("auth 1\n1 sha1 other\n")
    with pytest.raises(UpgradeError, match=r"/etc/ha\.d/authkeys cannot differ between the nodes"):
        rig.upgrade()


def test_a_new_guest_is_made_by_the_node_that_it_is_at_home_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "firstboot.upgrading.upgrade.creation.create", lambda _, wish, __: rig.record(f"make {wish.definition.name}")
    )
    both = "guests: [{name: a, home: xen1, memory: 64M, disk: 2M}, {name: b, home: xen2, memory: 64M, disk: 2M}]"
    rig.upgrade("guests: []", both)
    assert rig.done == ["make a"]
    assert "name: a" in text(rig, "etc/xenpair/cluster.yaml")


def test_a_node_that_first_boot_is_not_done_with_has_nothing_to_upgrade(rig: Rig) -> None:
    rig.places.formed.unlink()
    with pytest.raises(UpgradeError, match="no member of a formed pair yet"):
        rig.look(version="2")


def test_a_config_that_is_not_there_is_refused(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        prospect.prospect(rig.places, None, rig.directory / "none.yaml")


def test_a_record_that_is_none_is_refused(rig: Rig) -> None:
    rig.places.upgrade.mkdir(parents=True)
    (rig.places.upgrade / "owed.json").write_text("[]")
    with pytest.raises(UpgradeError, match=r"owed\.json is not what an upgrade has written"):
        owed.read(rig.places)
