"""What stands in the way of a live migration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.capacity import guest_share
from firstboot.guests.definition import Definition
from firstboot.plan.migration import missing_features, obstacles
from firstboot.probe.xen import Hypervisor, parse_hypervisor

MIB = 1 << 20
WEB = Definition("web01", "xen1", 512 * MIB, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")


@pytest.fixture
def xen(captured: Path) -> Hypervisor:
    """A node's Xen."""
    return parse_hypervisor((captured / "xl-info.txt").read_text())


def test_nothing_stands_in_the_way_between_two_equal_nodes(xen: Hypervisor) -> None:
    assert obstacles(WEB, xen, xen, bridge_there=True) == ()


def test_a_pv_guest_cannot_be_migrated_whatever_the_peer_has(xen: Hypervisor) -> None:
    (why,) = obstacles(replace(WEB, kind="pv"), xen, replace(xen, virt_caps=frozenset({"pv"})), bridge_there=True)
    assert "PV" in why


@pytest.mark.parametrize("missing", ["hvm", "hap"])
def test_the_peer_must_be_able_to_run_a_pvh_guest(xen: Hypervisor, missing: str) -> None:
    (why,) = obstacles(WEB, xen, replace(xen, virt_caps=xen.virt_caps - {missing}), bridge_there=True)
    assert missing in why


def test_a_guest_moves_to_a_newer_xen_and_not_to_an_older_one(xen: Hypervisor) -> None:
    newer = replace(xen, version="4.21.0")
    assert obstacles(WEB, xen, newer, bridge_there=True) == ()
    (why,) = obstacles(WEB, newer, xen, bridge_there=True)
    assert "4.21.0" in why


def test_another_patch_level_does_not_matter(xen: Hypervisor) -> None:
    assert obstacles(WEB, xen, replace(xen, version="4.20.1"), bridge_there=True) == ()


def test_the_peers_cpu_needs_all_features_of_ours_and_may_have_more(xen: Hypervisor) -> None:
    less = replace(xen, hw_caps=(*xen.hw_caps[:5], xen.hw_caps[5] & ~0x20, *xen.hw_caps[6:]))
    assert obstacles(WEB, less, xen, bridge_there=True) == ()
    (why,) = obstacles(WEB, xen, less, bridge_there=True)
    assert "word 5 bits 00000020" in why


def test_words_that_only_one_side_tells_count_where_they_say_something() -> None:
    assert missing_features((1, 0), (1,)) == ""
    assert missing_features((1, 2), (1,)) == "word 1 bits 00000002"
    assert missing_features((1,), (1, 2)) == ""


def test_the_peer_needs_room_for_more_than_the_guests_ram(xen: Hypervisor) -> None:
    need = guest_share(WEB)
    assert need > WEB.memory
    assert obstacles(WEB, xen, replace(xen, free_memory=need), bridge_there=True) == ()
    (why,) = obstacles(WEB, xen, replace(xen, free_memory=need - 1), bridge_there=True)
    assert "needs 517M" in why


def test_the_bridge_must_be_there(xen: Hypervisor) -> None:
    (why,) = obstacles(WEB, xen, xen, bridge_there=False)
    assert "xenbr0" in why


def test_all_is_told_at_once(xen: Hypervisor) -> None:
    poor = Hypervisor("4.17.0", 0, 0, frozenset(), ())
    assert len(obstacles(WEB, xen, poor, bridge_there=False)) == 5
