"""Split brain: told from other refusals, shown per volume, frozen, and settled by nothing but the typed words."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.door import Output
from config.errors import CommandError
from firstboot import divergence, settlement, split_brain, storage
from firstboot.blocks import Blocks
from firstboot.brief import Brief
from firstboot.errors import SplitBrainError
from firstboot.places import Places
from firstboot.plan.replication import InitialSync, Wait, next_storage_step
from firstboot.plan.split_brain import FREE, METADATA, Kinship, Side, Written, kinship, obstacle, rows, written
from firstboot.probe.drbd import DrbdState, Generations, parse_get_gi
from firstboot.probe.lvm import Volume

BRIEF = Brief(node="xen1", peer="xen2", first=True, resource="r0", volume_group="data")
MIB = 256
"""Blocks."""

ANCESTOR = 0x7BC0D1E2F3A4B5C6
MINE = Generations(0x1E5A3B7C9D2F4A60, ANCESTOR, (0x11, 0x12))
PEERS = Generations(0x60A4F2D9C7B3A5E0, ANCESTOR, (0x11, 0x12))
ALONE = DrbdState("StandAlone", "Primary", "Unknown", "UpToDate", "Outdated")


def volume(name: str, start: int, end: int) -> Volume:
    """Between two places in MiB."""
    return Volume(name, f"uuid-of-{name}", ((start << 20, end << 20),))


VOLUMES = (volume("web01", 1, 13), volume("db01", 13, 29), volume("kept", 29, 37))


def side(node: str, generations: Generations, marked: Blocks, hot: Blocks = Blocks(), count: int | None = None) -> Side:  # noqa: B008
    return Side(
        node=node,
        connection="StandAlone",
        role="Primary",
        disk="UpToDate",
        generations=generations,
        written=marked.count if count is None else count,
        marked=marked,
        hot=hot,
        end=100 * MIB,
        data_start=MIB,
        seqno=5,
        volumes=VOLUMES,
    )


XEN1 = side("xen1", MINE, Blocks.of([(MIB, 3 * MIB), (30 * MIB, 30 * MIB + 2)]))
XEN2 = side("xen2", PEERS, Blocks.of([(14 * MIB, 14 * MIB + 8), (30 * MIB + 1, 30 * MIB + 4)]))


def test_generations_are_read_without_their_lowest_bit() -> None:
    line = "1E5A3B7C9D2F4A61:7BC0D1E2F3A4B5C6:0000000000000011:0000000000000000:1:1:1:0:0:0:0\n"
    assert parse_get_gi(line) == Generations(0x1E5A3B7C9D2F4A60, ANCESTOR, (0x10, 0))


@pytest.mark.parametrize(
    ("mine", "peer", "expected"),
    [
        (MINE, PEERS, Kinship.SPLIT),
        (MINE, MINE, Kinship.SAME),
        (MINE, Generations(ANCESTOR, 0, (0x11, 0x12)), Kinship.MINE_NEWER),
        (MINE, Generations(0x11, 0, (0x13, 0x14)), Kinship.MINE_NEWER),
        (MINE, Generations(0x4, 0, (0, 0)), Kinship.MINE_NEWER),
        (Generations(0x4, 0, (0, 0)), PEERS, Kinship.PEER_NEWER),
        (Generations(0x4, 0, (0, 0)), Generations(0x4, 0, (0, 0)), Kinship.SAME),
        (MINE, Generations(0x80, 0x90, (0x12, 0x21)), Kinship.AMBIGUOUS),
        (Generations(0x70, 0, (0, 0)), Generations(0x80, 0, (0, 0)), Kinship.AMBIGUOUS),
        (MINE, Generations(0x80, 0, (0x21, 0x22)), Kinship.UNRELATED),
    ],
)
def test_kinship_is_what_drbd_makes_of_it(mine: Generations, peer: Generations, expected: Kinship) -> None:
    turned = {Kinship.MINE_NEWER: Kinship.PEER_NEWER, Kinship.PEER_NEWER: Kinship.MINE_NEWER}
    assert kinship(mine, peer) is expected
    assert kinship(peer, mine) is turned.get(expected, expected)


def test_each_volume_shows_who_wrote_it_last() -> None:
    found = {row.volume: row for row in rows(XEN1, XEN2)}
    assert (found["web01"].mine, found["web01"].last, found["web01"].certain) == (Written(512, 512), ("xen1",), True)
    assert (found["db01"].peer, found["db01"].last) == (Written(8, 8), ("xen2",))
    assert (found["kept"].mine, found["kept"].peer, found["kept"].both) == (Written(2, 2), Written(3, 3), 1)
    assert found["kept"].last == ("xen1", "xen2")
    assert found[METADATA].last == found[FREE].last == ()
    text = divergence.as_text(XEN1, XEN2)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith(("web01", "db01", "kept"))}
    assert lines["web01"].split() == ["web01", "2.0", "MiB", "-", "-", "xen1"]
    assert lines["db01"].split() == ["db01", "-", "32", "KiB", "-", "xen2"]
    assert lines["kept"].endswith("both: only you can tell")
    assert "(no volume)" not in text
    assert "--keep xen1" in text


def test_a_volume_that_only_one_side_has_is_named_in_the_loss() -> None:
    with_new = replace(XEN2, volumes=(*VOLUMES, volume("new", 40, 44)), seqno=6)
    assert "volume group itself was changed" in divergence.as_text(XEN1, with_new)
    assert "new (only on xen2)" in divergence.loss(XEN1, with_new, "xen2")
    assert "new (only on xen2)" not in divergence.loss(XEN1, with_new, "xen1").partition("To keep")[2]


def test_what_the_disk_cannot_say_yet_is_bounded_by_the_kernels_count() -> None:
    hot = Blocks.of([(MIB, 5 * MIB), (13 * MIB, 17 * MIB)])
    unsure = side("xen1", MINE, Blocks(), hot, count=2)
    web01, db01, kept = (written(unsure, v.blocks) for v in VOLUMES)
    assert (web01, db01, kept) == (Written(0, 2), Written(0, 2), Written(0, 0))
    # A log of one volume alone leaves no doubt; and none is left where nothing was written at all.
    assert written(replace(unsure, hot=Blocks.of([(MIB, 5 * MIB)])), VOLUMES[0].blocks) == Written(2, 2)
    assert written(replace(unsure, written=0), VOLUMES[0].blocks) == Written(0, 0)
    (row, *_) = rows(unsure, side("xen2", PEERS, Blocks()))
    assert divergence.last(row) == "xen1, if at all"
    assert divergence.amount(row.mine) == "up to 8 KiB"


numbers = st.integers(0, 99)


@st.composite
def divided(draw: st.DrawFn) -> tuple[Side, set[int]]:
    """A side of 100 blocks, cut into volumes anyhow, and what it has really written."""
    cuts = sorted(draw(st.sets(numbers, min_size=1, max_size=6)))
    volumes = tuple(
        Volume(f"lv{start}", "", ((start * 4096, end * 4096),))
        for start, end in itertools.pairwise(cuts)
        if draw(st.booleans())
    )
    wrote = draw(st.sets(numbers))
    on_disk = {number for number in wrote if draw(st.booleans())}
    # What is not on the disk is in the log's extents, which hold more than that.
    extents = {number // 10 for number in wrote - on_disk} | draw(st.sets(st.integers(0, 9), max_size=2))
    found = side(
        "xen1", MINE, Blocks.of((n, n + 1) for n in on_disk), Blocks.of((e * 10, e * 10 + 10) for e in extents)
    )
    return replace(found, end=100, data_start=cuts[0], volumes=volumes, written=len(wrote)), wrote


@settings(deadline=None)
@given(divided(), divided())
def test_volumes_and_the_rest_are_all_that_was_written(one: tuple[Side, set[int]], two: tuple[Side, set[int]]) -> None:
    (mine, wrote), (peer, _) = one, (replace(two[0], node="xen2", volumes=one[0].volumes), two[1])
    found = rows(mine, peer)
    certain = replace(mine, marked=Blocks.of((n, n + 1) for n in wrote), hot=Blocks())
    assert sum(row.mine.least for row in rows(certain, peer)) == len(wrote)
    assert sum(row.mine.most for row in rows(certain, peer)) == len(wrote)
    assert sum(row.mine.least for row in found) <= len(wrote) <= sum(row.mine.most for row in found)
    for row, true in zip(found, rows(certain, peer), strict=True):
        assert row.mine.least <= true.mine.least <= row.mine.most


def test_a_side_survives_the_wire() -> None:
    assert split_brain.from_json(split_brain.as_json(XEN2)) == XEN2
    for text in ("", "{}", "[1]", '{"node": 1}'):
        with pytest.raises(SplitBrainError, match="not understood"):
            split_brain.from_json(text)


@pytest.mark.parametrize(
    ("mine", "peer", "keep", "reason"),
    [
        (XEN1, XEN2, "xen3", "the pair is xen1 and xen2"),
        (replace(XEN1, connection="Connected"), XEN2, "xen1", "nothing to decide"),
        (replace(XEN1, disk="Inconsistent"), XEN2, "xen1", "cannot be kept"),
        (XEN1, replace(XEN2, generations=MINE), "xen1", "same generation"),
        (XEN1, replace(XEN2, generations=Generations(0x80, 0, (0x12, 0))), "xen2", "do not tell"),
        (XEN1, replace(XEN2, connection="WFConnection"), "xen2", ""),
    ],
)
def test_only_a_split_brain_can_be_settled(mine: Side, peer: Side, keep: str, reason: str) -> None:
    found = obstacle(mine, peer, keep)
    assert reason in found
    assert bool(found) == bool(reason)


@dataclass
class Node:
    """A node that does what it is told: DRBD's state follows its commands, and the peer answers over SSH."""

    state: DrbdState = ALONE
    peer: Side | None = XEN2
    in_use: bool = False
    ran: list[str] = field(default_factory=list)

    def run(self, argv: Sequence[str | Path], **_: object) -> Output:
        line = " ".join(map(str, argv))
        if line.startswith("ssh"):
            line = "ssh " + line.partition("/usr/bin/xenpair split-brain ")[2]
        self.ran.append(line)
        match line.split():
            case ["ssh", "--act", "look"]:
                if self.peer is None:
                    raise CommandError(list(map(str, argv)), 255, "ssh: connect to host xen2: No route to host\n")
                return Output(0, split_brain.as_json(self.peer), "")
            case ["drbdadm", "suspend-io", _]:
                self.state = replace(self.state, suspended=True)
            case ["drbdadm", "resume-io", _]:
                self.state = replace(self.state, suspended=False)
            case ["systemctl", "stop", *_] if not self.in_use:
                assert not self.state.suspended
                self.state = DrbdState("Unconfigured")
            case ["drbdadm", "adjust", _]:
                self.state = DrbdState("WFConnection", "Secondary", "Unknown", "UpToDate", "DUnknown")
            case ["drbdadm", "disconnect", _]:
                self.state = replace(self.state, connection="StandAlone")
            case ["drbdadm", "connect", "--discard-my-data", _]:
                self.state = replace(self.state, connection="WFConnection")
            case ["drbdadm", "connect", _]:
                self.state = replace(self.state, connection="SyncSource", peer_role="Secondary")
            case ["lvs", *_]:
                return Output(0, "  web01\n  db01\n", "")
        return Output(0, "", "")

    @property
    def changed(self) -> list[str]:
        return [line for line in self.ran if line != "ssh --act look"]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node()
    for module in (settlement, split_brain, storage):
        monkeypatch.setattr(module, "run", node.run)
    monkeypatch.setattr("firstboot.observe.drbd", lambda: node.state)
    monkeypatch.setattr("firstboot.observe.generations", lambda _: MINE)
    monkeypatch.setattr(split_brain, "look", lambda _: XEN1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return node


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


LOOK = DrbdState("WFConnection", "Primary", "Unknown", "UpToDate", "Outdated")


def test_a_refused_peer_is_asked_whether_it_is_a_split_brain(node: Node, places: Places) -> None:
    assert split_brain.status(BRIEF, places, ALONE).state == "detected"
    node.peer = replace(XEN2, generations=MINE)
    other = split_brain.status(BRIEF, places, ALONE)
    assert (other.state, "no split brain" in other.reason) == ("unclear", True)
    node.peer = None
    unknown = split_brain.status(BRIEF, places, ALONE)
    assert (unknown.state, "No route to host" in unknown.reason) == ("unclear", True)


def test_an_absent_peer_is_not_asked_anything(node: Node, places: Places) -> None:
    assert split_brain.status(BRIEF, places, LOOK) == split_brain.NONE
    assert node.ran == []


def test_drbds_own_word_needs_no_peer_and_ends_with_that_data(
    node: Node, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.peer = None
    settlement.notice(BRIEF, places)
    assert split_brain.status(BRIEF, places, LOOK).state == "detected"
    monkeypatch.setattr("firstboot.observe.generations", lambda _: replace(MINE, bitmap=0))
    assert split_brain.status(BRIEF, places, LOOK) == split_brain.NONE


def test_what_is_noticed_is_frozen_once_the_connection_is_gone(node: Node, places: Places) -> None:
    states = iter(["WFReportParams", "Disconnecting", "StandAlone"])

    def pause(_: float) -> None:
        assert node.ran == []
        node.state = replace(ALONE, connection=next(states))

    pause(0)
    settlement.notice(BRIEF, places, pause)
    assert node.ran == ["drbdadm suspend-io r0"]
    settlement.notice(BRIEF, places)
    node.state = DrbdState("StandAlone", "Secondary", "Unknown", "UpToDate", "DUnknown")
    settlement.notice(BRIEF, places)
    assert node.ran == ["drbdadm suspend-io r0"]


def test_the_storage_unit_waits_and_says_for_what(node: Node, places: Places) -> None:
    refusal = split_brain.Refusal(BRIEF, places)
    parted = DrbdState("StandAlone", "Secondary", "Unknown", "UpToDate", "DUnknown")
    for _ in range(3):
        step = next_storage_step(
            parted, InitialSync.AS_RECORDED, first=True, peer="xen2", peer_off=True, refused=refusal.reason(parted)
        )
        assert isinstance(step, Wait)
        assert "split brain" in step.reason
        assert "`xenpair split-brain`" in step.reason
    assert len(node.ran) == 1
    assert refusal.reason(LOOK) == ""


def test_who_is_kept_apart_for_no_reason_of_the_data_meets_again_after_a_while(node: Node, places: Places) -> None:
    clock = [0.0]
    refusal = split_brain.Refusal(BRIEF, places, now=lambda: clock[0])
    parted = DrbdState("StandAlone", "Secondary", "Unknown", "Outdated", "DUnknown")
    node.peer = replace(XEN2, generations=MINE)
    assert "no split brain" in refusal.reason(parted)
    assert not refusal.has_passed()
    clock[0] = split_brain.MEET_AGAIN
    assert refusal.has_passed()
    assert not refusal.has_passed()


def test_who_has_parted_is_never_brought_together(node: Node, places: Places) -> None:
    clock = [0.0]
    refusal = split_brain.Refusal(BRIEF, places, now=lambda: clock[0])
    assert "split brain" in refusal.reason(DrbdState("StandAlone", "Secondary", "Unknown", "UpToDate", "DUnknown"))
    clock[0] = 10 * split_brain.MEET_AGAIN
    assert not refusal.has_passed()


def test_the_peer_is_met_again_but_not_where_it_has_noticed_a_split_brain(node: Node, places: Places) -> None:
    node.state = DrbdState("StandAlone", "Primary", "Unknown", "UpToDate", "Outdated")
    settlement.act(BRIEF, places, "meet")
    assert "drbdadm connect r0" in node.ran
    node.ran.clear()
    split_brain.note(BRIEF, places)
    settlement.act(BRIEF, places, "meet")
    assert "drbdadm connect r0" not in node.ran


@pytest.mark.parametrize("words", ["", "yes", "discard what was written on xen1", "Discard what was written on xen2"])
def test_without_the_words_nothing_is_touched(node: Node, places: Places, words: str) -> None:
    with pytest.raises(SplitBrainError, match="nothing is changed"):
        settlement.keep(BRIEF, places, "xen1", lambda _: words)
    assert node.changed == []


def test_the_words_are_asked_for_with_the_loss_before_them(node: Node, places: Places) -> None:
    asked: list[str] = []

    def type_out(text: str) -> str:
        asked.append(text)
        return ""

    with pytest.raises(SplitBrainError):
        settlement.keep(BRIEF, places, "xen1", type_out)
    lost = asked[0].partition("To keep xen1's data, this is discarded on xen2:")[2]
    assert "db01: 32 KiB" in lost
    assert "kept: 12 KiB" in lost
    assert "web01" not in lost
    assert lost.endswith("Type `discard what was written on xen2`: ")


def test_to_keep_this_side_the_peer_gives_up_before_they_meet(node: Node, places: Places) -> None:
    settlement.notice(BRIEF, places)
    node.ran.clear()
    settlement.keep(BRIEF, places, "xen1", lambda _: "discard what was written on xen2\n")
    assert node.changed == [
        f"ssh --act give-up {PEERS.current:016X}",
        "drbdadm resume-io r0",
        "drbdadm connect r0",
        "systemctl start --no-block xenpair-storage.service heartbeat.service",
        "ssh --act rejoin",
    ]
    assert not places.split_brain.exists()


def test_to_keep_the_peer_this_side_is_taken_down_and_offered(node: Node, places: Places) -> None:
    settlement.notice(BRIEF, places)
    node.ran.clear()
    settlement.keep(BRIEF, places, "xen2", lambda _: "discard what was written on xen1")
    assert node.changed == [
        "ssh --act part",
        "drbdadm resume-io r0",
        "systemctl stop heartbeat.service xenpair-storage.service",
        "drbdadm adjust r0",
        "drbdadm disconnect r0",
        "drbdadm connect --discard-my-data r0",
        "ssh --act go-on",
        "systemctl start --no-block xenpair-storage.service heartbeat.service",
    ]


def test_a_side_in_use_is_not_discarded_and_is_frozen_again(node: Node, places: Places) -> None:
    settlement.notice(BRIEF, places)
    node.ran.clear()
    node.in_use = True
    with pytest.raises(SplitBrainError, match="web01, db01 is in use on xen1"):
        settlement.keep(BRIEF, places, "xen2", lambda _: "discard what was written on xen1")
    assert not any("connect" in line or "go-on" in line for line in node.ran)
    assert node.ran[-1] == "drbdadm suspend-io r0"
    assert split_brain.status(BRIEF, places, ALONE).state == "detected"


def test_a_side_that_was_given_up_comes_back_also_where_they_do_not_meet_at_once(
    node: Node, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    connects = iter(["StandAlone"] * 99)

    def run(argv: Sequence[str | Path], **options: object) -> Output:
        output = node.run(argv, **options)
        if list(argv)[:2] == ["drbdadm", "connect"]:
            node.state = replace(node.state, connection=next(connects))
        return output

    node.state = replace(ALONE, suspended=True)
    monkeypatch.setattr(settlement, "run", run)
    with pytest.raises(SplitBrainError, match="xen2 is not taken back"):
        settlement.keep(BRIEF, places, "xen1", lambda _: "discard what was written on xen2")
    assert node.ran[-1] == "ssh --act rejoin"
    assert not node.state.suspended


def test_data_that_nobody_has_seen_is_not_discarded(node: Node, places: Places) -> None:
    with pytest.raises(SplitBrainError, match="look again"):
        settlement.act(BRIEF, places, "give-up", "00000000000000AA")
    assert node.ran == []


def test_the_peers_error_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "xenpair: split brain: give-up on xen2\nxenpair: db01 is in use on xen2\n  shut it down\n"

    def run(argv: list[str], **_: object) -> Output:
        raise CommandError(argv, 1, said)

    monkeypatch.setattr(split_brain, "run", run)
    with pytest.raises(SplitBrainError) as error:
        split_brain.ask(BRIEF, "give-up")
    assert str(error.value) == "xen2: db01 is in use on xen2\n  shut it down"


def test_a_volume_is_copied_in_its_own_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, captured: Path) -> None:
    partition = tmp_path / "partition"
    with partition.open("wb") as f:
        f.truncate(64 << 20)
        for at, text in ((1 << 20, b"begin"), (37 << 20, b"behind the gap"), (9 << 20, b"web01")):
            f.seek(at)
            f.write(text)
    monkeypatch.setattr("os.O_DIRECT", 0)
    monkeypatch.setattr("firstboot.below.backing_partition", lambda _: partition)
    report = Output(0, (captured / "pvs-segments.json").read_text(), "")
    monkeypatch.setattr("firstboot.below.run", lambda *_, **__: report)
    out = io.BytesIO()
    settlement.copy(BRIEF, "kept", out)
    data = out.getvalue()
    assert len(data) == 16 << 20
    assert data.startswith(b"begin")
    assert data[8 << 20 :].startswith(b"behind the gap")
    with pytest.raises(SplitBrainError, match="no volume mail, only kept, web01, db01"):
        settlement.copy(BRIEF, "mail", out)


def test_scripts_get_bytes() -> None:
    found = json.loads(divergence.as_json(XEN1, XEN2))
    assert found["split_brain"] is True
    assert found["relation"] == "split"
    by_name = {entry["name"]: entry for entry in found["volumes"]}
    assert by_name["web01"]["written"] == {"xen1": {"least": 2 << 20, "most": 2 << 20}, "xen2": {"least": 0, "most": 0}}
    assert by_name["kept"]["both"] == 4096
    assert by_name["kept"]["last"] == ["xen1", "xen2"]
