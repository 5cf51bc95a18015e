"""First boot loses power between and inside all of its steps, and still comes to the same end, with nothing done twice.

The fake disk refuses by itself what must never happen: something made or erased where the pair's data is, or erased
once our own partition has been made.
"""

from __future__ import annotations

import random
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from config.model import Cluster
from firstboot.errors import BackingDiskError, JournalError
from firstboot.join.facts import JoinRecord
from firstboot.journal import Journal, kept_aside
from firstboot.report import read_progress
from tests.unit import fake_disk
from tests.unit.fake_node import EXAMPLE, MIRRORED, FakeNode, PowerCut, install, loaded

MAC = 'match: {mac: "52:54:00:10:32:01"}'
WIPE = EXAMPLE.replace(MAC, f"{MAC}\n    disks: {{backing: {{serial: {fake_disk.SERIAL}, wipe: true}}}}")
RAID = EXAMPLE.replace('{serial: "data-*", min_size: 4M}', MIRRORED)
RAID_WIPE = EXAMPLE.replace(
    MAC, f"{MAC}\n    disks: {{backing: {{raid1: true, serial: [{fake_disk.SERIAL}, data-xen1b], wipe: true}}}}"
)
PARTUUID = "99999999-9999-4999-8999-999999999999"

Make = Callable[[str], FakeNode]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where the host has one: hundreds of nodes' files are made, and no disk is waited for."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="xenpair-", dir=shm if shm.is_dir() else tmp_path) as directory:
        yield Path(directory)


@pytest.fixture
def make(memory: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A new node with that config, in the place of the machine."""

    def make(config: str = EXAMPLE) -> FakeNode:
        node = FakeNode(memory / uuid.uuid4().hex, cluster, config, mirrored="raid1: true" in config)
        install(node, monkeypatch)
        return node

    return make


def put_foreign_data(node: FakeNode, name: str = "xenpair-prod-r0") -> None:
    """A partition of somebody else's, with DRBD's metadata and a file system in it; on both disks of a mirror."""
    for disk in node.disks:
        disk.partition(PARTUUID, name)
        disk.create_md(f"{disk.path}1")
        disk.bytes[fake_disk.START + 1080 : fake_disk.START + 1082] = b"\x53\xef"
        disk.made = disk.precious = False
    node.ticks = 0


def cut_short(node: FakeNode, cut: int) -> None:
    """First boot with a power cut after so many effects, where it has as many; then the power is back."""
    node.ticks, node.cut_at = 0, cut
    with suppress(PowerCut):
        node.first_boot()
    node.power_on()


def run(node: FakeNode, *cuts: int) -> None:
    """First boot, with a power cut after so many effects of each start; then one that is left in peace."""
    for cut in cuts:
        cut_short(node, cut)
    node.first_boot()


def effects(make: Make, prepare: Callable[[FakeNode], None], config: str) -> int:
    """How many effects first boot has."""
    node = make(config)
    prepare(node)
    node.first_boot()
    return node.ticks


def assert_formed(node: FakeNode) -> Journal:
    assert node.places.formed.exists()
    assert not node.cached, "the volume group is gone when the power goes now"
    record = JoinRecord.model_validate_json(node.places.join.read_bytes())
    entries = [disk.entry() for disk in node.disks]
    assert [entry and entry[1] for entry in entries] == ["xenpair-xenpair-r0"] * len(entries)
    assert record.mine.partition == (node.mirror.names()[1] if node.mirror else node.disk.names()[2])
    public = node.places.at("root/.ssh/id_ed25519.pub").read_text().strip()
    assert record.mine.user_key == public, "a key was made anew after the peer had been told"
    journal = Journal(node.places.journal)
    detail = journal.detail("disks")
    halves = ("a.", "b.") if node.mirror else ("",)
    if "known_from" not in detail:
        assert [detail[f"{half}partuuid"] for half in halves] == [entry and entry[0] for entry in entries]
    return journal


def nothing(node: FakeNode) -> None:
    """A blank disk."""


def assert_one_name(node: FakeNode) -> None:
    journal = assert_formed(node)
    for key in ("array", "a.partuuid", "b.partuuid") if node.mirror else ("partuuid",):
        named = {entry.detail[key] for entry in journal.entries if key in entry.detail}
        assert len(named) == 1, "two names for one thing"
    assert not journal.rebuilt
    assert kept_aside(node.places.journal) == ()


@pytest.mark.exhaustive
@pytest.mark.parametrize("config", [EXAMPLE, RAID], ids=["one disk", "mirror"])
@pytest.mark.parametrize("storage_first", [False, True])
def test_a_power_cut_anywhere_doubles_nothing(make: Make, storage_first: bool, config: str) -> None:
    total = effects(make, nothing, config)
    assert total > (110 if config == RAID else 80)
    resumed_at = set()
    for cut in range(total, 0, -1):
        node = make(config)
        node.storage_first = storage_first
        cut_short(node, cut)
        if storage_first and not node.drbd.both_up_to_date:
            break  # From here down nothing differs from a boot at which the storage unit comes later.
        run(node)
        assert_one_name(node)
        progress = read_progress(node.places.progress)
        assert progress is not None
        resumed_at.add(progress.resumed_at)
    # What `xenpair status` shows.
    late = {"drbd", "lvm", "heartbeat", "guests"}
    assert resumed_at - {""} == (late if storage_first else {"identity", "network", "access", "disks", "join", *late})


@pytest.mark.exhaustive
def test_a_power_cut_anywhere_in_a_wipe_erases_nothing_else(make: Make) -> None:
    wiping = 0
    for cut in range(1, effects(make, put_foreign_data, WIPE) + 1):
        node = make(WIPE)
        put_foreign_data(node)
        before = bytes(node.disk.bytes)
        cut_short(node, cut)
        if node.disk.made:
            break  # From here on nothing differs from a disk that was blank.
        if bytes(node.disk.bytes) == before and not Journal(node.places.journal).detail("disks"):
            continue
        wiping += 1
        run(node)
        assert_one_name(node)
    assert wiping >= 8


@pytest.mark.exhaustive
def test_a_power_cut_anywhere_in_the_wipe_of_two_disks_erases_nothing_else(make: Make) -> None:
    for cut in range(1, effects(make, put_foreign_data, RAID_WIPE) + 1):
        node = make(RAID_WIPE)
        put_foreign_data(node)
        cut_short(node, cut)
        if all(disk.made for disk in node.disks):
            break
        run(node)
        assert_one_name(node)
    assert cut > 30


@pytest.mark.parametrize("other", [0, 1])
def test_of_two_disks_neither_is_written_to_where_one_is_not_blank(make: Make, other: int) -> None:
    node = make(RAID)
    node.disks[other].bytes[fake_disk.START + 1080 : fake_disk.START + 1082] = b"\x53\xef"
    before = [bytes(disk.bytes) for disk in node.disks]
    with pytest.raises(BackingDiskError, match=rf"{node.disks[other].path} \(serial data-xen1b?\) is not blank"):
        node.first_boot()
    assert [bytes(disk.bytes) for disk in node.disks] == before
    assert Journal(node.places.journal).detail("disks") == {}


def test_a_mirror_that_was_made_is_used_with_one_half_alone(make: Make) -> None:
    total = effects(make, nothing, RAID)
    for cut in range(total, 0, -10):
        node = make(RAID)
        cut_short(node, cut)
        if "made" not in Journal(node.places.journal).detail("disks") or node.places.formed.exists():
            continue
        dead = node.disks.pop()
        assert node.mirror
        node.mirror.halves.remove(dead)
        node.power_on()
        node.first_boot()
        assert node.places.formed.exists()


def test_a_journal_of_a_mirror_that_is_gone_is_rebuilt_from_the_join(make: Make) -> None:
    node = make(RAID)
    run(node)
    before = [bytes(disk.bytes[: fake_disk.START + 8192]) for disk in node.disks]
    for path in (node.places.formed, node.places.journal):
        path.unlink()
    node.power_on()
    node.first_boot()
    journal = assert_formed(node)
    assert journal.detail("disks")["known_from"].startswith(str(node.places.join))
    assert [bytes(disk.bytes[: fake_disk.START + 8192]) for disk in node.disks] == before


@pytest.mark.parametrize("config", [WIPE, RAID_WIPE], ids=["one disk", "mirror"])
@pytest.mark.parametrize("seed", range(20))
def test_many_power_cuts_in_a_row_double_nothing(make: Make, seed: int, config: str) -> None:
    node = make(config)
    put_foreign_data(node)
    dice = random.Random(seed)  # noqa: S311
    node.storage_first = dice.random() < 0.5
    run(node, *(dice.randrange(1, 60) for _ in range(6)))
    assert_formed(node)


def test_a_disk_that_is_not_blank_keeps_every_byte(make: Make) -> None:
    node = make(EXAMPLE)
    put_foreign_data(node)
    before = bytes(node.disk.bytes)
    for _ in range(2):
        with pytest.raises(BackingDiskError, match=r"gpt at byte 512 of vdb.*ext4 at byte 1080 of vdb1.*drbd at byte"):
            node.first_boot()
        node.power_on()
    assert bytes(node.disk.bytes) == before


def test_a_wipe_is_written_down_before_and_after(make: Make) -> None:
    node = make(WIPE)
    put_foreign_data(node)
    run(node)
    details = [e.detail for e in assert_formed(node).entries if e.step == "disks" and e.detail]
    assert "ext4 at byte 1080 of vdb1" in details[0]["wipe"]
    assert "partition /dev/vdb1 (xenpair-prod-r0)" in details[0]["wipe"]
    assert details[1]["wiped"] == "yes"


@pytest.mark.parametrize("name", ["xenpair-xenpair-r0", "xenpair-xenpair-other"])
def test_wipe_stands_in_the_config_and_this_clusters_partition_stays(make: Make, name: str) -> None:
    node = make(WIPE)
    put_foreign_data(node, name)
    before = bytes(node.disk.bytes)
    with pytest.raises(BackingDiskError, match="a partition of this very cluster"):
        node.first_boot()
    assert bytes(node.disk.bytes) == before


def test_a_new_system_disk_does_not_wipe_the_pairs_data(make: Make) -> None:
    node = make(WIPE)
    put_foreign_data(node)
    run(node)
    again = make(WIPE)
    again.disk.bytes, again.disk.precious, again.disk.made = node.disk.bytes, True, True
    with pytest.raises(BackingDiskError, match="a partition of this very cluster"):
        again.first_boot()


def test_what_is_formed_is_left_alone(make: Make) -> None:
    node = make(EXAMPLE)
    run(node)
    node.places.journal.unlink()
    node.programs.clear()
    node.first_boot()
    assert node.programs == []
    assert not node.places.journal.exists()


DAMAGE = ("gone", "empty", "cut", "garbage", "zeros", "one byte")


def damage(node: FakeNode, how: str, dice: random.Random) -> None:
    path = node.places.journal
    data = path.read_bytes() if path.exists() else b""
    at = dice.randrange(len(data) or 1)
    changed = {
        "empty": b"",
        "cut": data[:at],
        "garbage": dice.randbytes(len(data)),
        "zeros": bytes(512) + data[512:],
        "one byte": data[:at] + b"\xff" + data[at + 1 :],
    }
    if how == "gone":
        path.unlink(missing_ok=True)
    elif data:
        path.write_bytes(changed[how])


@pytest.mark.parametrize("config", [EXAMPLE, WIPE, RAID], ids=["refuse", "wipe", "mirror"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_lost_journal_costs_no_data(make: Make, how: str, config: str) -> None:
    prepare = put_foreign_data if config == WIPE else nothing
    total = effects(make, prepare, config)
    formed = 0
    cuts = range(1 + DAMAGE.index(how), total, 9)
    for cut in cuts:
        dice = random.Random(cut)  # noqa: S311
        node = make(config)
        prepare(node)
        node.storage_first = dice.random() < 0.5
        cut_short(node, cut)
        damage(node, how, dice)
        joined = node.places.join.exists()
        if node.places.formed.exists():
            continue
        if not joined:
            # Nothing but the journal says whose a half-made thing is, so this may be a clear stop. Else it is certain.
            with suppress(BackingDiskError, JournalError):
                node.first_boot()
        else:
            node.first_boot()
        if node.places.formed.exists():
            formed += 1
            assert_formed(node)
    assert formed >= len(cuts) / 4


def test_a_journal_that_is_gone_is_rebuilt_from_the_join(make: Make) -> None:
    node = make(EXAMPLE)
    run(node)
    entry = node.disk.entry()
    for path in (node.places.formed, node.places.journal):
        path.unlink()
    node.power_on()
    node.first_boot()
    journal = assert_formed(node)
    assert node.disk.entry() == entry
    assert journal.rebuilt
    assert journal.detail("disks")["known_from"].startswith(str(node.places.join))
    assert journal.is_done("disks")


def test_a_damaged_journal_is_kept_for_the_administrator(make: Make) -> None:
    node = make(EXAMPLE)
    run(node)
    node.places.formed.unlink()
    node.places.journal.write_bytes(b"\x00" * 300 + b"\n")
    node.power_on()
    node.first_boot()
    assert_formed(node)
    (kept,) = kept_aside(node.places.journal)
    assert kept.read_bytes() == b"\x00" * 300 + b"\n"


def test_records_that_contradict_each_other_are_a_clear_stop(make: Make) -> None:
    node = make(EXAMPLE)
    run(node)
    node.places.formed.unlink()
    text = node.places.join.read_text()
    entry = node.disk.entry()
    assert entry is not None
    node.places.join.write_text(text.replace(entry[0], PARTUUID))
    with pytest.raises(JournalError, match="contradict each other"):
        node.first_boot()


def test_a_partition_that_the_join_names_and_no_disk_has_is_a_clear_stop(make: Make) -> None:
    node = make(EXAMPLE)
    run(node)
    for path in (node.places.formed, node.places.journal):
        path.unlink()
    node.disk.bytes[:] = bytes(len(node.disk.bytes))
    node.power_on()
    with pytest.raises(JournalError, match="which no partition here has"):
        node.first_boot()
    assert not any(node.disk.bytes)


def test_a_config_that_was_mended_after_the_join_is_joined_with_again(make: Make) -> None:
    node = make(EXAMPLE)
    run(node)
    node.places.formed.unlink()
    node.places.config.write_text(EXAMPLE.replace("deadtime: 20", "deadtime: 25"))
    node.power_on()
    node.first_boot()
    assert_formed(node)
    record = JoinRecord.model_validate_json(node.places.join.read_bytes())
    assert record.mine.config_hash == loaded(node.places.config).cluster.config_hash()
    assert record.mine.fresh


@pytest.mark.parametrize("text", ["", "{", '{"mine": 1}'])
def test_a_broken_record_of_the_join_is_a_clear_stop(make: Make, text: str) -> None:
    node = make(EXAMPLE)
    run(node)
    node.places.formed.unlink()
    node.places.join.write_text(text)
    with pytest.raises(JournalError, match=r"join\.json: it is not what first boot has written there"):
        node.first_boot()
