"""Guests' volumes, on two nodes that share one volume group and nothing else. Every program ends in FakeGroup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from config.door import Output
from config.errors import CommandError, XenpairError
from firstboot.brief import Brief
from firstboot.errors import GuestError, LockedError, PeerError, StorageError
from firstboot.guests import volumes
from firstboot.guests.definition import to_tags
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.guests.side import LocalSide
from firstboot.probe.drbd import UNCONFIGURED, DrbdState
from tests.unit import guests_rig as rig
from tests.unit.fake_group import MIB, WEB01, FakeGroup, FakeVolume, PowerCut, install, made, noted, on
from tests.unit.guests_rig import BOTH_SYNC, FROZEN, RESYNC, SURVIVOR, VERIFY, WHOLE, XEN1, XEN2

MAKING = replace(WEB01, phase="making")


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> FakeGroup:
    """Empty, with both nodes there."""
    group = FakeGroup()
    install(group, monkeypatch)
    rig.drbd_is(monkeypatch, WHOLE)
    return group


# A guest's volume comes.


def test_a_volume_is_made_with_all_its_tags_at_once_and_is_usable_on_both_nodes(
    group: FakeGroup, tmp_path: Path
) -> None:
    with on(group, tmp_path) as pair:
        volumes.create(pair, WEB01, 9 * MIB)
        assert noted(group) == MAKING
        tags = " ".join(f"--addtag {tag}" for tag in to_tags(MAKING))
        assert group.changes == [
            f"/usr/sbin/lvcreate --yes --wipesignatures y --zero y --size {12 * MIB}b --name web01 {tags} data"
        ]
        assert group.active == {"xen1": {"web01": 12 * MIB}, "xen2": {"web01": 12 * MIB}}
        volumes.finish(pair, WEB01)
        assert registry("data")[0].definition == WEB01
        assert group.changes[1:] == ["/usr/sbin/lvchange --deltag xenpair.phase=making data/web01"]


def test_both_nodes_show_that_they_see_the_same_before_and_after_a_change(group: FakeGroup, tmp_path: Path) -> None:
    with on(group, tmp_path) as pair:
        volumes.create(pair, WEB01, 8 * MIB)
    at = next(number for number, (_, words) in enumerate(group.programs) if "lvcreate" in words)
    assert group.programs[at + 1] == ("xen1", "sync /dev/drbd0")
    looks = [[(node, words.split()[0]) for node, words in group.programs[i : i + 2]] for i in (at - 2, at + 2)]
    assert looks == [[("xen1", "vgs"), ("xen2", "vgs")]] * 2


def test_no_change_counts_before_the_disk_has_it(group: FakeGroup, tmp_path: Path) -> None:
    changes: tuple[Callable[[Pair], None], ...] = (
        lambda pair: volumes.create(pair, WEB01, 8 * MIB),
        lambda pair: volumes.finish(pair, WEB01),
        lambda pair: volumes.resize(pair, "web01", 16 * MIB),
        lambda pair: volumes.remove(pair, "web01"),
    )
    with on(group, tmp_path) as pair:
        for change in changes:
            made = len(group.changes)
            change(pair)
            assert len(group.changes) > made
            assert not group.unflushed


def test_a_volume_of_that_name_is_in_the_way_whoever_it_belongs_to(group: FakeGroup, tmp_path: Path) -> None:
    group.volumes["web01"] = FakeVolume(4 * MIB, [])
    with on(group, tmp_path) as pair, pytest.raises(GuestError, match="there is a volume data/web01 already"):
        volumes.create(pair, WEB01, 8 * MIB)
    assert not group.changes


def test_a_disk_for_which_there_is_no_room_says_how_much_there_is(group: FakeGroup, tmp_path: Path) -> None:
    with on(group, tmp_path) as pair:
        volumes.create(pair, WEB01, 40 * MIB)
        with pytest.raises(GuestError, match="no room for a disk of 64M: 60M are free in data"):
            volumes.create(pair, replace(WEB01, name="db01"), 61 * MIB)
        with pytest.raises(GuestError, match="no room for a disk that is 64M larger: 60M are free"):
            volumes.resize(pair, "web01", 101 * MIB)
        assert len(group.changes) == 1
        volumes.create(pair, replace(WEB01, name="db01"), 60 * MIB)


def test_what_is_too_long_for_a_tag_is_refused_before_anything_is_locked(group: FakeGroup, tmp_path: Path) -> None:
    long = replace(WEB01, arguments="x" * 2000)
    with on(group, tmp_path) as pair:
        with pytest.raises(GuestError, match="web01: arguments is too long"):
            volumes.create(pair, long, 8 * MIB)
        with pytest.raises(GuestError, match="too long"):
            volumes.retag(pair, WEB01, long)
    assert not group.programs


def test_a_volume_that_the_peer_cannot_use_is_taken_back(group: FakeGroup, tmp_path: Path) -> None:
    group.busy.add(("xen2", "web01"))

    def mend(words: str) -> None:
        if words == "lvchange --activate n data/web01":
            group.busy.clear()

    group.before = mend
    with on(group, tmp_path) as pair, pytest.raises(PeerError, match=r"(?s)xen2: .*in use"):
        volumes.create(pair, WEB01, 8 * MIB)
    assert not group.volumes
    assert group.active == {"xen1": {}, "xen2": {}}


# It grows.


def test_a_larger_disk_is_loaded_anew_on_both_nodes(group: FakeGroup, tmp_path: Path) -> None:
    made(group)
    with on(group, tmp_path, XEN2) as pair:
        volumes.resize(pair, "web01", 15 * MIB)
    assert group.changes == [f"/usr/sbin/lvextend --size {16 * MIB}b data/web01"]
    assert group.active == {"xen1": {"web01": 16 * MIB}, "xen2": {"web01": 16 * MIB}}


def test_a_disk_never_shrinks(group: FakeGroup, tmp_path: Path) -> None:
    made(group)
    with on(group, tmp_path) as pair, pytest.raises(GuestError, match="has 8M, and 4M would cut off its end"):
        volumes.resize(pair, "web01", 4 * MIB)
    assert not group.changes


# It goes.


def test_a_volume_is_marked_then_unmapped_on_both_nodes_then_removed(group: FakeGroup, tmp_path: Path) -> None:
    made(group)
    with on(group, tmp_path) as pair:
        volumes.remove(pair, "web01")
    assert not group.volumes
    assert [p for p in group.programs if p[1].split()[0] not in ("vgs", "lvs", "sync")] == [
        ("xen1", "/usr/sbin/lvchange --addtag xenpair.phase=deleting data/web01"),
        ("xen2", "lvchange --activate n data/web01"),
        ("xen1", "lvchange --activate n data/web01"),
        ("xen1", "/usr/sbin/lvremove --yes data/web01"),
    ]


@pytest.mark.parametrize("node", ["xen1", "xen2"])
def test_a_volume_in_use_on_either_node_stays(group: FakeGroup, tmp_path: Path, node: str) -> None:
    made(group).busy.add((node, "web01"))
    with on(group, tmp_path) as pair, pytest.raises(XenpairError, match="in use"):
        volumes.remove(pair, "web01")
    assert replace(WEB01, phase="deleting") == noted(group)


def test_a_volume_that_is_no_guests_is_not_touched(group: FakeGroup, tmp_path: Path) -> None:
    group.volumes["backup"] = FakeVolume(4 * MIB, ["monday"])
    with on(group, tmp_path) as pair:
        foreign = r"backup belongs to no guest: it has no tag xenpair\.guest"
        with pytest.raises(GuestError, match=foreign):
            volumes.remove(pair, "backup")
        with pytest.raises(GuestError, match=foreign):
            volumes.resize(pair, "backup", 8 * MIB)
        with pytest.raises(GuestError, match="there is no guest nobody"):
            volumes.remove(pair, "nobody")
        assert registry("data") == ()
    assert not group.changes


def test_what_the_kernel_still_maps_of_a_volume_that_is_gone_is_cleared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    def fake(argv: list[str], **_: object) -> None:
        ran.append(argv)
        if argv[0] == "lvchange":
            raise CommandError(argv, 5, '  Failed to find logical volume "data/web-01"')

    monkeypatch.setattr("firstboot.guests.side.run", fake)
    side = LocalSide(XEN1, rig.places(tmp_path, XEN1))
    side.deactivate("web-01")
    assert len(ran) == 1
    mapped = rig.root(tmp_path, XEN1) / "dev/mapper/data-web--01"
    mapped.parent.mkdir(parents=True)
    mapped.touch()
    side.deactivate("web-01")
    assert ran[-1] == ["dmsetup", "remove", "data-web--01"]


def test_what_a_killed_maker_has_left_mounted_is_unmounted_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = tmp_path / "xenpair-making-k2x" / "root"
    ours.mkdir(parents=True)
    mounts = [tmp_path / "administrators", ours]
    released: list[Path] = []

    def fake(argv: list[str | Path], **_: object) -> Output:
        if argv[0] == "lvchange" and mounts:
            raise CommandError(list(map(str, argv)), 5, "  Logical volume data/web01 contains a filesystem in use.")
        if argv[0] == "umount":
            released.append(Path(argv[-1]))
            mounts.remove(Path(argv[-1]))
        return Output(0, "".join(f"{mount}\n" for mount in mounts), "")

    monkeypatch.setattr("firstboot.guests.side.run", fake)
    monkeypatch.setattr("firstboot.guests.making.run", fake)
    side = LocalSide(XEN1, rig.places(tmp_path, XEN1))
    with pytest.raises(CommandError, match="in use"):
        side.deactivate("web01")
    assert released == [ours]
    assert not ours.parent.exists()
    mounts.clear()
    side.deactivate("web01")


# What is noted of it changes.


def test_only_the_tags_that_differ_are_changed_in_one_command(group: FakeGroup, tmp_path: Path) -> None:
    made(group).volumes["web01"].tags.append("monday")
    new = replace(WEB01, memory=1024 * MIB, wanted="stopped")
    with on(group, tmp_path) as pair:
        volumes.retag(pair, WEB01, WEB01)
        assert not group.changes
        volumes.retag(pair, WEB01, new)
        assert noted(group) == new
        assert "monday" in group.volumes["web01"].tags
        assert group.changes == [
            f"/usr/sbin/lvchange --deltag xenpair.memory={512 * MIB} --addtag xenpair.memory={1024 * MIB}"
            " --addtag xenpair.wanted=stopped data/web01"
        ]
        with pytest.raises(GuestError, match="changed by somebody else meanwhile"):
            volumes.retag(pair, WEB01, replace(WEB01, priority=1))
        with pytest.raises(GuestError, match="web01 cannot become db01"):
            volumes.retag(pair, new, replace(new, name="db01"))
    assert len(group.changes) == 1


@pytest.mark.parametrize("drbd", [WHOLE, SURVIVOR, RESYNC, VERIFY])
def test_a_note_is_also_taken_by_a_survivor_and_while_the_peer_is_filled_up(
    group: FakeGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drbd: DrbdState
) -> None:
    made(group)
    rig.drbd_is(monkeypatch, drbd)
    with on(group, tmp_path) as pair:
        volumes.retag(pair, WEB01, replace(WEB01, wanted="stopped"))
    assert len(group.changes) == 1
    asked = {node for node, _ in group.programs}
    assert asked == ({"xen1", "xen2"} if drbd.peer_role == "Primary" else {"xen1"})


# When nothing is changed.


ACTIONS: dict[str, Callable[[Pair], None]] = {
    "create": lambda pair: volumes.create(pair, replace(WEB01, name="db01"), 8 * MIB),
    "resize": lambda pair: volumes.resize(pair, "web01", 16 * MIB),
    "remove": lambda pair: volumes.remove(pair, "web01"),
    "retag": lambda pair: volumes.retag(pair, WEB01, replace(WEB01, priority=1)),
}
REFUSED = {
    FROZEN: ACTIONS,
    UNCONFIGURED: ACTIONS,
    replace(WHOLE, role="Secondary"): ACTIONS,
    replace(WHOLE, suspended=True): ACTIONS,
    BOTH_SYNC: ACTIONS,
    SURVIVOR: ("create", "resize", "remove"),
    RESYNC: ("create", "resize", "remove"),
    VERIFY: ("create", "resize", "remove"),
    replace(WHOLE, peer_disk="Diskless"): ACTIONS,
}


@pytest.mark.parametrize(
    ("drbd", "action"), [(drbd, action) for drbd, actions in REFUSED.items() for action in actions]
)
def test_drbd_must_be_fit_for_it_and_the_error_says_how_it_is(
    group: FakeGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drbd: DrbdState, action: str
) -> None:
    made(group)
    rig.drbd_is(monkeypatch, drbd)
    with on(group, tmp_path) as pair, pytest.raises(GuestError, match=f"not possible now: .*DRBD is {drbd.connection}"):
        ACTIONS[action](pair)
    assert not group.programs


@pytest.mark.parametrize("action", ACTIONS)
def test_where_the_nodes_see_different_metadata_nothing_is_written(
    group: FakeGroup, tmp_path: Path, action: str
) -> None:
    made(group).lag = 1
    with on(group, tmp_path) as pair, pytest.raises(StorageError, match="change 1 on xen1, 0 on xen2"):
        ACTIONS[action](pair)
    assert not group.changes


@pytest.mark.parametrize("action", ACTIONS)
def test_a_change_that_the_peer_does_not_see_is_an_error(group: FakeGroup, tmp_path: Path, action: str) -> None:
    made(group)

    def stale(words: str) -> None:
        group.lag += words.startswith("/usr/sbin/")

    group.before = stale
    with on(group, tmp_path) as pair, pytest.raises(StorageError, match="change 2 on xen1, 1 on xen2"):
        ACTIONS[action](pair)
    assert len(group.changes) == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_where_the_peers_half_of_a_lock_is_gone_nothing_is_written(
    group: FakeGroup, tmp_path: Path, action: str
) -> None:
    made(group)
    with on(group, tmp_path) as pair:

        def lose(_: str) -> None:
            pair._open().server.release()  # type: ignore[attr-defined]

        group.before = lose
        with pytest.raises(PeerError, match="xen2 does not hold its half"):
            ACTIONS[action](pair)
    assert not group.changes


@pytest.mark.parametrize("action", ACTIONS)
def test_drbd_is_looked_at_once_more_right_before_a_change(
    group: FakeGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    made(group)
    group.before = lambda _: rig.drbd_is(monkeypatch, FROZEN)
    with on(group, tmp_path) as pair, pytest.raises(XenpairError):
        ACTIONS[action](pair)
    assert not group.changes


def test_one_change_waits_for_the_other(group: FakeGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "PATIENCE", 0.0)
    made(group)
    with (
        on(group, tmp_path, XEN2) as there,
        there.lock("volumes", what="guest create db01", wait=0),
        on(group, tmp_path) as pair,
        pytest.raises(LockedError, match="guest create db01"),
    ):
        ACTIONS["resize"](pair)
    assert not group.programs


# An owner that ends anywhere.


def cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str, prepare: Callable[[FakeGroup], object]
) -> Iterator[FakeGroup]:
    """The group as the owner leaves it when it ends before its first program, its second, and so on, to the last."""
    for number in count(1):
        group = FakeGroup(cut_at=number)
        prepare(group)
        install(group, monkeypatch)
        try:
            with on(group, tmp_path) as pair:
                ACTIONS[action](pair)
        except PowerCut:
            group.cut_at = 0
            yield group
        else:
            assert number > 4
            return


@pytest.mark.parametrize("brief", [XEN1, XEN2])
def test_what_a_dead_creator_has_left_is_removed_by_either_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brief: Brief
) -> None:
    rig.drbd_is(monkeypatch, WHOLE)
    left = 0
    for group in cut(monkeypatch, tmp_path, "create", made):
        left += "db01" in group.volumes
        with on(group, tmp_path, brief) as pair:
            volumes.settle(pair)
        assert list(group.volumes) == ["web01"]
        assert group.active == {"xen1": {"web01": 8 * MIB}, "xen2": {"web01": 8 * MIB}}
    assert left


@pytest.mark.parametrize("brief", [XEN1, XEN2])
def test_a_deletion_that_was_begun_is_finished_by_either_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brief: Brief
) -> None:
    rig.drbd_is(monkeypatch, WHOLE)
    finished = untouched = 0
    for group in cut(monkeypatch, tmp_path, "remove", made):
        begun = "web01" not in group.volumes or noted(group) != WEB01
        with on(group, tmp_path, brief) as pair:
            volumes.settle(pair)
        if begun:
            finished += 1
            assert not group.volumes
            assert group.active == {"xen1": {}, "xen2": {}}
        else:
            untouched += 1
            assert noted(group) == WEB01
            assert group.active == {"xen1": {"web01": 8 * MIB}, "xen2": {"web01": 8 * MIB}}
    assert finished
    assert untouched


def test_a_resize_that_was_cut_short_is_finished_by_saying_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.drbd_is(monkeypatch, WHOLE)
    for group in cut(monkeypatch, tmp_path, "resize", made):
        with on(group, tmp_path, XEN2) as pair:
            ACTIONS["resize"](pair)
        assert group.active == {"xen1": {"web01": 16 * MIB}, "xen2": {"web01": 16 * MIB}}


def test_a_note_is_taken_wholly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.drbd_is(monkeypatch, WHOLE)
    for group in cut(monkeypatch, tmp_path, "retag", made):
        assert noted(group) in (WEB01, replace(WEB01, priority=1))


@pytest.mark.parametrize("brief", [XEN1, XEN2])
def test_what_a_living_owner_is_at_is_left_alone(group: FakeGroup, tmp_path: Path, brief: Brief) -> None:
    made(group, MAKING)
    with on(group, tmp_path) as owner, owner.lock("guest/web01", what="guest create web01", wait=0):
        with on(group, tmp_path, brief) as pair:
            volumes.settle(pair)
        assert noted(group) == MAKING
    with on(group, tmp_path, brief) as pair:
        volumes.settle(pair)
    assert not group.volumes


def test_where_there_is_nothing_to_settle_the_peer_is_not_asked(group: FakeGroup, tmp_path: Path) -> None:
    made(group)
    with on(group, tmp_path) as pair:
        volumes.settle(pair)
        assert pair._session is None
