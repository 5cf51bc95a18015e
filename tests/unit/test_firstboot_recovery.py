"""What becomes of a journal that is damaged or gone, and where first boot says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstboot.errors import JournalError, ProbeError
from firstboot.journal import Entry, Reading
from firstboot.places import Places
from firstboot.plan.recovery import Past, judge
from firstboot.probe.disks import BlockDevice, parse_lsblk
from firstboot.probe.records import device_in_join, device_in_resource
from firstboot.status import as_text, firstboot_status, without_identity

P1, P2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
PART = BlockDevice("/dev/vdb1", "part", 1 << 30, partuuid=P1, partlabel="xenpair-xenpair-r0")
DISK = BlockDevice("/dev/vdb", "disk", 4 << 30, serial="data-xen1", children=(PART,))
BEGUN = Entry("disks", "begun", 1.0, {"serial": "data-xen1", "partuuid": P1})
IDENTITY = Entry("identity", "done", 0.5, {})
TRACES = ("brief.json",)
RESOURCE = f"""
resource r0 {{
	on xen1 {{
		device /dev/drbd0 minor 0;
		disk "/dev/disk/by-partuuid/{P1}";
	}}
	on xen2 {{
		disk /dev/disk/by-partuuid/{P2};
	}}
}}
"""


def test_a_journal_that_says_all_is_left_alone() -> None:
    assert judge("j", Reading(), Past(), ()) is None
    assert judge("j", Reading((IDENTITY,)), Past(TRACES), ()) is None
    assert judge("j", Reading((IDENTITY, BEGUN)), Past(TRACES, {"join.json": P1}), ()) is None


def test_an_empty_journal_beside_traces_of_a_first_boot_is_rebuilt_without_what_nobody_knows() -> None:
    rebuild = judge("j", Reading(), Past(TRACES), (DISK,))
    assert rebuild is not None
    assert rebuild.disks == {}
    assert "brief.json" in rebuild.why


@pytest.mark.parametrize("reading", [Reading(), Reading((IDENTITY,)), Reading((), "j:1: not a line of this journal")])
def test_the_partition_is_known_from_the_join_and_from_the_disk(reading: Reading) -> None:
    rebuild = judge("j", reading, Past(TRACES, {"join.json": P1, "xenpair.res": P1}), (DISK,))
    assert rebuild is not None
    assert rebuild.disks == {
        "serial": "data-xen1",
        "disk": "/dev/vdb",
        "partuuid": P1,
        "known_from": "join.json and xenpair.res",
    }


def test_what_the_whole_part_of_the_journal_says_is_kept() -> None:
    rebuild = judge("j", Reading((IDENTITY, BEGUN), "j:3: not a line"), Past(TRACES, {"join.json": P1}), ())
    assert rebuild is not None
    assert rebuild.disks == {}


@pytest.mark.parametrize(
    ("reading", "named", "disk", "message"),
    [
        (Reading((BEGUN,)), {"join.json": P2}, DISK, f"join.json says {P2}; j says {P1}"),
        (Reading(), {"join.json": P1, "xenpair.res": P2}, DISK, "contradict each other"),
        (Reading(), {"join.json": P2}, DISK, f"names PARTUUID {P2}, which no partition here has"),
        (
            Reading(),
            {"join.json": P1},
            replace(DISK, children=(replace(PART, partlabel="home"),)),
            "'home', which first boot has not made",
        ),
    ],
)
def test_what_does_not_fit_together_is_a_clear_stop(
    reading: Reading, named: dict[str, str], disk: BlockDevice, message: str
) -> None:
    with pytest.raises(JournalError, match=message) as e:
        judge("j", reading, Past(TRACES, named), (disk,))
    assert e.value.hint


@given(
    st.lists(st.sampled_from([IDENTITY, BEGUN]), max_size=3),
    st.sampled_from(["", "j:1: not a line of this journal"]),
    st.dictionaries(st.sampled_from(["join.json", "xenpair.res"]), st.sampled_from([P1, P2])),
    st.booleans(),
    st.sampled_from([(), (DISK,), (replace(DISK, children=()),)]),
)
def test_whatever_is_left_the_outcome_is_certain_or_a_stop(
    entries: list[Entry], damage: str, named: dict[str, str], traces: bool, devices: tuple[BlockDevice, ...]
) -> None:
    past = Past(TRACES if traces or named else (), named)
    try:
        rebuild = judge("j", Reading(tuple(entries), damage), past, devices)
    except JournalError:
        return
    known = {*named.values(), *(e.detail["partuuid"] for e in entries if "partuuid" in e.detail)}
    assert len(known) <= 1
    if rebuild is None:
        assert not damage
        assert entries or not past.traces
        assert not named or BEGUN in entries
    elif rebuild.disks:
        assert {rebuild.disks["partuuid"]} == known == {P1}
        assert devices == (DISK,)


def test_the_resource_file_names_each_nodes_partition() -> None:
    assert device_in_resource(RESOURCE, "xen1") == P1
    assert device_in_resource(RESOURCE, "xen2") == P2
    assert device_in_resource(RESOURCE, "xen3") is None
    assert device_in_resource("\x00\x01 on xen1 {", "xen1") is None


@pytest.mark.parametrize("text", ["", "{}", "\x00", '{"mine": {}, "peer": {}}'])
def test_what_is_no_record_of_a_join_names_nothing(text: str) -> None:
    with pytest.raises(ProbeError, match="not what first boot has written"):
        device_in_join(text, "xen1", "xenpair")


def test_status_names_the_journals_that_were_kept(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert firstboot_status(places).damaged_journals == ()
    kept = places.journal.with_name("journal.jsonl.damaged-1")
    kept.parent.mkdir(parents=True)
    kept.write_text("x")
    assert firstboot_status(places).damaged_journals == (str(kept),)
    assert f"the journal was damaged, and rebuilt; kept as {kept}" in as_text(without_identity(places, "host"))
    places.formed.write_text("xen1\n")
    assert firstboot_status(places).damaged_journals == (str(kept),)


ARRAY = "4f051fbf:bc8b4c10:b0721cf6:53a873d0"


def test_a_mirror_is_known_from_the_join_and_from_one_half(captured: Path) -> None:
    devices = parse_lsblk((captured / "lsblk-mirror-degraded.json").read_text())
    rebuild = judge("j", Reading(), Past(TRACES, {"join.json": f"md-uuid-{ARRAY}"}), devices)
    assert rebuild is not None
    assert rebuild.disks == {"array": ARRAY, "made": "yes", "known_from": "join.json"}
    begun = {"a.partuuid": P1, "b.partuuid": P2, "array": ARRAY}
    known = Reading((Entry("disks", "begun", 1.0, {**begun, "made": "yes"}),))
    assert judge("j", known, Past(TRACES, {"join.json": f"md-uuid-{ARRAY}"}), devices) is None
    with pytest.raises(JournalError, match="of which no half is here"):
        judge("j", Reading(), Past(TRACES, {"join.json": f"md-uuid-{ARRAY}"}), (DISK,))


def test_a_mirror_in_drbds_resource_file_is_read_as_the_join_writes_it() -> None:
    text = RESOURCE.replace(f'disk "/dev/disk/by-partuuid/{P1}"', f'disk "/dev/disk/by-id/md-uuid-{ARRAY}"')
    assert device_in_resource(text, "xen1") == f"md-uuid-{ARRAY}"
    assert device_in_resource(text, "xen2") == P2
