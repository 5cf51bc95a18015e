"""The campaign apart from the lab: the sequence of rounds, the audits, the writer on the node."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from config.loader import load
from lab.campaign import node_writer
from lab.campaign.audits import split_brains, unproven
from lab.campaign.campaign import Outcome, schedule
from lab.campaign.catalogue import CATALOGUE
from lab.campaign.report import summary, table
from lab.campaign.writers import Ack, longest_pause
from lab.errors import LabError

CLUSTER = load(Path(__file__).parents[2] / "config" / "cluster.yaml").cluster
FENCED = """\
[  370.441057] kernel: drbd r0: peer( Primary -> Unknown ) conn( Connected -> NetworkFailure ) pdsk( UpToDate -> DUnknown ) susp( 0 -> 1 )
[  370.488985] kernel: drbd r0: conn( Unconnected -> WFConnection )
[  370.490420] kernel: drbd r0: helper command: /sbin/drbdadm fence-peer r0
[  378.783359] kernel: drbd r0: helper command: /sbin/drbdadm fence-peer r0 exit code 7 (0x700)
[  378.794734] kernel: drbd r0: fence-peer helper returned 7 (peer was stonithed)
[  378.813516] kernel: drbd r0: pdsk( DUnknown -> Outdated )
[  378.815763] kernel: drbd r0: susp( 1 -> 0 )
"""  # noqa: E501
FORMED = """\
[  234.190940] kernel: drbd r0/0 drbd0: disk( Diskless -> Attaching )
[  234.378054] kernel: drbd r0/0 drbd0: disk( Attaching -> Inconsistent )
[  240.189429] kernel: drbd r0: conn( WFConnection -> WFReportParams )
[  240.295338] kernel: drbd r0/0 drbd0: peer( Unknown -> Secondary ) conn( WFReportParams -> Connected ) pdsk( DUnknown -> Inconsistent )
[  242.521920] kernel: drbd r0/0 drbd0: disk( Inconsistent -> UpToDate ) pdsk( Inconsistent -> UpToDate )
[  242.987446] kernel: drbd r0/0 drbd0: role( Secondary -> Primary )
"""  # noqa: E501
PROOF = "[  378.794734] kernel: drbd r0: fence-peer helper returned 7 (peer was stonithed)\n"


def test_the_same_seed_gives_the_same_rounds_and_every_fault_its_turn() -> None:
    rounds = schedule(7, 2 * len(CATALOGUE), [])
    assert rounds == schedule(7, 2 * len(CATALOGUE), [])
    assert rounds != schedule(8, 2 * len(CATALOGUE), [])
    assert {r.fault.name for r in rounds[: len(CATALOGUE)]} == set(CATALOGUE)
    assert len({r.seed for r in rounds}) == len(rounds)


def test_more_rounds_go_on_where_fewer_ended() -> None:
    assert schedule(7, 30, [])[:10] == schedule(7, 10, [])


def test_a_fault_that_is_none_is_named_with_those_that_are() -> None:
    with pytest.raises(LabError, match=r"no fault 'earthquake'(?s:.*)power-one"):
        schedule(1, 1, ["power-one", "earthquake"])


def test_a_promotion_with_both_disks_up_to_date_and_one_with_proof_are_in_order() -> None:
    assert unproven(FORMED) == []
    assert unproven(FORMED + FENCED) == []


def test_a_promotion_with_an_outdated_or_absent_peer_is_found() -> None:
    alone = FORMED.replace("pdsk( Inconsistent -> UpToDate )", "")
    (line,) = unproven(alone)
    assert "role( Secondary -> Primary )" in line


def test_letting_frozen_writes_go_on_without_proof_is_found() -> None:
    (line,) = unproven(FORMED + FENCED.replace(PROOF, ""))
    assert "susp( 1 -> 0 )" in line


def test_the_flight_lets_go_before_the_handler_has_ended() -> None:
    ours = "[  402.298995] xenpair[664]: fencing: proven: xen1 is off by its BMC\n"
    assert unproven(FORMED + FENCED.replace(PROOF, ours)) == []


def test_a_proof_counts_until_the_peer_is_heard_or_the_node_boots() -> None:
    heard = "[  400.0] kernel: drbd r0/0 drbd0: conn( WFReportParams -> WFBitMapS ) pdsk( Outdated -> Consistent )\n"
    back = "[  401.0] kernel: drbd r0/0 drbd0: conn( WFBitMapS -> SyncSource ) pdsk( Consistent -> Inconsistent )\n"
    lost = FENCED.replace(PROOF, "")
    assert unproven(FORMED + FENCED + heard + back + lost) != []
    boot = "-- Boot 0d6f2f0c1b7a4a5f8f0f6a0b8a5c2f11 --\n"
    alone = "[  12.0] kernel: drbd r0/0 drbd0: role( Secondary -> Primary )\n"
    assert unproven(FORMED + FENCED + boot + alone) != []


def test_a_split_brain_is_found() -> None:
    line = "[  50.1] kernel: drbd r0/0 drbd0: Split-Brain detected but unresolved, dropping connection!"
    assert split_brains(FORMED + line) == [line]
    due = "[ 1128.402136] kernel: drbd r0/0 drbd0: bm UUID was already set: 5878E32086531693"
    assert split_brains(FORMED + due) == [due]
    assert split_brains(FORMED + FENCED) == []


def test_the_table_tells_median_worst_and_failures_by_fault() -> None:
    hang, cut = schedule(1, 1, ["hang"])[0], schedule(1, 1, ["cluster-cut"])[0]
    outcomes = [
        Outcome(hang, 100.0, 12.0),
        Outcome(hang, 200.0, 30.0, ["xen2 lost write 4 of xen1"]),
        Outcome(cut, None, None, ["xen1 is healthy: not within 900 s"]),
    ]
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(table(outcomes, CLUSTER))
    rows = [line.replace("│", "").split() for line in console.export_text().splitlines() if line.startswith("│")]
    assert rows == [
        ["cluster-cut", "1", "1"],
        ["hang", "2", "150", "s", "200", "s", "21", "s", "30", "s", "1"],
        ["all", "3", "150", "s", "200", "s", "21", "s", "30", "s", "2"],
    ]
    assert "FAILED: xen2 lost write 4 of xen1" in summary(outcomes[1])


def test_the_longest_pause_is_between_two_writes_that_followed_each_other() -> None:
    assert longest_pause([Ack(0, 1.0), Ack(1, 1.5), Ack(2, 9.0), Ack(3, 9.1)]) == 7.5
    assert longest_pause([Ack(0, 1.0)]) == 0


def test_a_sector_that_is_older_than_what_was_acknowledged_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "volume"
    device.write_bytes(bytes(64 * node_writer.SECTOR))
    monkeypatch.setattr(node_writer, "PAUSE", 0.0)
    monkeypatch.setattr(node_writer, "STOP", str(tmp_path / "stop"))
    node_writer.write(str(device), "a")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [str(n) for n in range(64)]
    assert node_writer.intact(str(device), "a", 64) == 64
    with device.open("r+b") as f:
        f.seek(40 * node_writer.SECTOR)
        f.write(bytes(node_writer.SECTOR))
    assert node_writer.intact(str(device), "a", 64) == 40
    assert node_writer.intact(str(device), "a", 40) == 40
    assert node_writer.intact(str(device), "b", 64) == 0
