"""Every decision of first boot, on every combination of what two nodes can be in."""

from __future__ import annotations

import itertools

import pytest

from config.machine import Machine
from config.model import Cluster
from firstboot.errors import BackingDiskError, IdentityError
from firstboot.plan import identity, replication
from firstboot.plan.outline import outline
from firstboot.plan.replication import InitialSync
from firstboot.probe.disks import Signature
from firstboot.probe.drbd import DrbdState

CONNECTIONS = """
    Unconfigured StandAlone Disconnecting Unconnected Timeout BrokenPipe NetworkFailure ProtocolError TearDown
    WFConnection WFReportParams Connected StartingSyncS StartingSyncT WFBitMapS WFBitMapT WFSyncUUID SyncSource
    SyncTarget PausedSyncS PausedSyncT VerifyS VerifyT Ahead Behind
""".split()  # noqa: SIM905  as the user's guide lists them
ROLES = ("Primary", "Secondary", "Unknown")
DISKS = (
    "Diskless",
    "Attaching",
    "Failed",
    "Negotiating",
    "Inconsistent",
    "Outdated",
    "DUnknown",
    "Consistent",
    "UpToDate",
)


def machine(*macs: str, serial: str = "", uuid: str = "") -> Machine:
    return Machine({f"eth{i}": mac for i, mac in enumerate(macs)}, serial, uuid)


def test_a_machine_is_the_node_whose_mac_it_has(cluster: Cluster) -> None:
    xen2 = cluster.nodes[1]
    assert identity.identity(cluster, machine(xen2.nics.guest, xen2.nics.cluster)).name == "xen2"


def test_an_unknown_machine_stops_with_what_was_seen(cluster: Cluster) -> None:
    with pytest.raises(IdentityError, match=r"matches no node.*eth0 52:54:00:00:00:99.*serial: SN7"):
        identity.identity(cluster, machine("52:54:00:00:00:99", serial="SN7"))


def test_a_machine_that_matches_both_nodes_stops(cluster: Cluster) -> None:
    macs = [node.nics.cluster for node in cluster.nodes]
    with pytest.raises(IdentityError, match="xen1 and xen2"):
        identity.identity(cluster, machine(*macs))


def test_all_given_criteria_have_to_fit(cluster: Cluster) -> None:
    xen1 = cluster.nodes[0]
    strict = xen1.model_copy(update={"match": xen1.match.model_copy(update={"serial": "SN1"})})
    changed = cluster.model_copy(update={"nodes": (strict, cluster.nodes[1])})
    assert identity.identity(changed, machine(xen1.nics.cluster, serial="SN1")).name == "xen1"
    with pytest.raises(IdentityError):
        identity.identity(changed, machine(xen1.nics.cluster, serial="SN2"))


def test_a_uuid_matches_in_either_case(cluster: Cluster) -> None:
    uuid = "4c4c4544-0042-3510-8051-c2c04f4a4d32"
    xen1 = cluster.nodes[0]
    by_uuid = xen1.model_copy(update={"match": xen1.match.model_copy(update={"mac": None, "uuid": uuid})})
    changed = cluster.model_copy(update={"nodes": (by_uuid, cluster.nodes[1])})
    assert identity.identity(changed, machine("52:54:00:00:00:99", uuid=uuid.upper())).name == "xen1"


def test_a_missing_card_is_named_with_those_that_are_there(cluster: Cluster) -> None:
    with pytest.raises(IdentityError, match=r"no network card 52:54:00:13:20:01 for nics.guest; seen: eth0 aa"):
        identity.nic({"aa:bb:cc:dd:ee:f0": "eth0"}, cluster.nodes[0], "guest")


def test_the_initial_sync_is_skipped_only_when_both_sides_are_fresh() -> None:
    decisions = {(mine, peer): replication.initial_sync(mine, peer) for mine in (True, False) for peer in (True, False)}
    assert decisions == {
        (True, True): InitialSync.SKIP,
        (True, False): InitialSync.FROM_PEER,
        (False, True): InitialSync.TO_PEER,
        (False, False): InitialSync.AS_RECORDED,
    }


ALL_STATES = [
    DrbdState(connection, role, peer_role, disk, peer_disk)
    for connection, role, peer_role, disk, peer_disk in itertools.product(CONNECTIONS, ROLES, ROLES, DISKS, DISKS)
]


@pytest.mark.parametrize("sync", InitialSync)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("peer_off", [True, False])
def test_nothing_is_promoted_but_with_the_peers_consent_or_beside_a_dead_one(
    sync: InitialSync, first: bool, peer_off: bool
) -> None:
    for state in ALL_STATES:
        step = replication.next_storage_step(state, sync, first, peer="xen2", peer_off=peer_off)
        if isinstance(step, replication.Promote):
            together = (state.connection, state.disk, state.peer_disk) == ("Connected", "UpToDate", "UpToDate")
            alone = peer_off and state.connection == "WFConnection" and state.disk in ("UpToDate", "Consistent")
            assert together or alone
        if isinstance(step, replication.Up):
            assert (state.role, state.disk) == ("Primary", "UpToDate")
        if isinstance(step, replication.DeclareEqual):
            assert first
            assert sync is InitialSync.SKIP
            assert (state.connection, state.disk, state.peer_disk) == ("Connected", "Inconsistent", "Inconsistent")
        if isinstance(step, replication.Wait):
            assert step.reason


def test_two_fresh_connected_sides_are_declared_equal_by_the_first_node_alone() -> None:
    state = DrbdState("Connected", "Secondary", "Secondary", "Inconsistent", "Inconsistent")
    assert replication.next_storage_step(state, InitialSync.SKIP, first=True, peer="xen2") == replication.DeclareEqual()
    assert isinstance(
        replication.next_storage_step(state, InitialSync.SKIP, first=False, peer="xen1"), replication.Wait
    )


def test_a_wait_for_a_resync_says_how_far_it_is() -> None:
    state = DrbdState("SyncTarget", "Secondary", "Primary", "Inconsistent", "UpToDate", synced=47.3)
    assert replication.next_storage_step(state, InitialSync.FROM_PEER, first=False, peer="xen1") == replication.Wait(
        "resync is running (40 %)"
    )


@pytest.mark.parametrize("sync", InitialSync)
@pytest.mark.parametrize("first", [True, False])
def test_the_volume_group_is_created_once_and_only_on_new_storage(sync: InitialSync, first: bool) -> None:
    assert replication.volume_group(True, sync, first, ()) == replication.UseVolumeGroup()
    decision = replication.volume_group(False, sync, first, ())
    if sync is InitialSync.SKIP and first:
        assert decision == replication.CreateVolumeGroup()
    else:
        assert isinstance(decision, replication.Wait)


def test_a_replicated_device_with_something_else_on_it_gets_no_volume_group() -> None:
    with pytest.raises(BackingDiskError, match="ext4"):
        replication.volume_group(False, InitialSync.SKIP, True, [Signature("drbd0", "ext4", 1080)])


def test_a_pvcreate_that_the_power_cut_is_finished() -> None:
    half = [Signature("drbd0", "LVM2_member", 536)]
    assert replication.volume_group(False, InitialSync.SKIP, True, half) == replication.CreateVolumeGroup()


def test_the_outline_names_the_next_step() -> None:
    steps = [("a", "first"), ("b", "second"), ("c", "third")]
    assert [s.state for s in outline(steps, ["a"])] == ["done", "next", "later"]
    assert [s.state for s in outline(steps, ["a", "b", "c"])] == ["done"] * 3
