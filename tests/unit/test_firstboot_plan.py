"""Every decision of first boot, on every combination of what two nodes can be in."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from config.model import Cluster, DiskRule
from firstboot.errors import BackingDiskError, IdentityError
from firstboot.plan import backing, identity, replication
from firstboot.plan.outline import outline
from firstboot.plan.replication import InitialSync
from firstboot.probe.disks import BlockDevice, Signature
from firstboot.probe.drbd import DrbdState
from firstboot.probe.machine import Machine

GIB = 1 << 30
DISK = BlockDevice("/dev/vdb", "disk", 4 * GIB, serial="data-xen1")
SYSTEM = BlockDevice(
    "/dev/vda",
    "disk",
    8 * GIB,
    serial="system-xen1",
    children=(BlockDevice("/dev/vda3", "part", 3 * GIB, fstype="ext4", mountpoints=("/",)),),
)
RULE = DiskRule(serial="data-*")
BEGUN = {"serial": "data-xen1", "partuuid": "11111111-2222-3333-4444-555555555555", "disk": "/dev/vdb"}
GPT = Signature("vdb", "gpt", 512)

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


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (DiskRule(serial="data-xen1"), True),
        (DiskRule(serial="data-*"), True),
        (DiskRule(serial="DATA-*"), False),
        (DiskRule(wwn="0x5000"), False),
        (DiskRule(model="*"), True),
        (DiskRule(min_size=4 * GIB), True),
        (DiskRule(min_size=4 * GIB + 1), False),
        (DiskRule(max_size=4 * GIB - 1), False),
        (DiskRule(serial="data-*", max_size=2 * GIB), False),
    ],
)
def test_a_rule_fits_only_where_all_of_it_does(rule: DiskRule, matches: bool) -> None:
    assert backing.fits(rule, DISK) is matches


def test_exactly_one_disk_has_to_fit() -> None:
    assert backing.backing_disk(RULE, [SYSTEM, DISK]) is DISK
    with pytest.raises(BackingDiskError, match=r"fits no disk.*/dev/vda \(8G, serial system-xen1.*in use"):
        backing.backing_disk(RULE, [SYSTEM])
    with pytest.raises(BackingDiskError, match=r"fits 2 disks"):
        backing.backing_disk(RULE, [DISK, replace(DISK, path="/dev/vdc", serial="data-2")])


def test_a_disk_in_use_is_never_the_backing_disk() -> None:
    with pytest.raises(BackingDiskError, match="in use: /"):
        backing.backing_disk(DiskRule(serial="system-*"), [SYSTEM, DISK])


def test_a_read_only_disk_is_refused() -> None:
    with pytest.raises(BackingDiskError, match="read-only"):
        backing.backing_disk(RULE, [replace(DISK, read_only=True)])


def test_partitions_and_cd_drives_are_not_disks() -> None:
    with pytest.raises(BackingDiskError, match="no disk at all"):
        backing.backing_disk(RULE, [replace(DISK, type="rom"), replace(DISK, type="loop")])


def test_a_blank_disk_is_partitioned() -> None:
    assert backing.backing_partition(DISK, (), {}) == backing.MakePartition(DISK)


@pytest.mark.parametrize("kind", ["gpt", "dos", "ext4", "LVM2_member", "linux_raid_member", "swap", "drbd", "vfat"])
def test_a_disk_with_a_signature_is_refused(kind: str) -> None:
    with pytest.raises(BackingDiskError, match=f"not blank: {kind} at byte 1080 of vdb"):
        backing.backing_partition(DISK, [Signature("vdb", kind, 1080)], {})


def test_a_disk_with_a_partition_is_refused_even_where_no_signature_is_known() -> None:
    disk = replace(DISK, children=(BlockDevice("/dev/vdb1", "part", GIB),))
    with pytest.raises(BackingDiskError, match="partition /dev/vdb1"):
        backing.backing_partition(disk, (), {})


def test_our_own_partition_is_used_again() -> None:
    part = BlockDevice("/dev/vdb1", "part", 4 * GIB - (1 << 21), partuuid=BEGUN["partuuid"], fstype="drbd")
    disk = replace(DISK, children=(part,))
    assert backing.backing_partition(disk, [GPT], BEGUN) == backing.UsePartition(part)


def test_our_own_half_made_table_is_made_again() -> None:
    assert backing.backing_partition(DISK, [GPT, Signature("vdb", "PMBR", 510)], BEGUN) == backing.MakePartition(DISK)


@pytest.mark.parametrize("foreign", [Signature("vdb", "ext4", 1080), Signature("vdb", "drbd", 1 << 31)])
def test_what_appeared_on_our_half_made_disk_is_refused(foreign: Signature) -> None:
    with pytest.raises(BackingDiskError, match=foreign.kind):
        backing.backing_partition(DISK, [GPT, foreign], BEGUN)


def test_somebody_elses_partition_on_our_disk_is_refused() -> None:
    disk = replace(DISK, children=(BlockDevice("/dev/vdb1", "part", GIB, partuuid="other", fstype="ext4"),))
    with pytest.raises(BackingDiskError, match=r"partition /dev/vdb1 \(ext4\)"):
        backing.backing_partition(disk, [GPT], BEGUN)


def test_another_disk_than_the_one_begun_with_is_refused() -> None:
    with pytest.raises(BackingDiskError, match=r"began with the disk of serial 'data-xen1'.*serial 'data-9'"):
        backing.backing_partition(replace(DISK, serial="data-9"), (), BEGUN)


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
