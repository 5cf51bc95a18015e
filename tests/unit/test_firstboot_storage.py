"""The storage unit's loop, with the kernel's answers given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from config.door import Output
from config.errors import CommandError, XenpairError
from firstboot import storage
from firstboot.brief import Brief
from firstboot.errors import StorageError
from firstboot.places import Places
from firstboot.probe.disks import BlockDevice
from firstboot.probe.drbd import UNCONFIGURED, DrbdState

BRIEF = Brief(node="xen1", peer="xen2", first=True, resource="r0", volume_group="data")
READY = DrbdState("Connected", "Secondary", "Secondary", "UpToDate", "UpToDate")
PRIMARY = DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")


def test_a_promotion_that_collides_with_the_peers_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = Output(11, "", "State change failed: (-19) Concurrent state changes detected and aborted\n")
    answers: Iterator[Output] = iter([refused, Output(0, "", "")])
    asked: list[list[str]] = []
    promoted = False

    def run(argv: Sequence[str], **_: object) -> Output:
        nonlocal promoted
        asked.append(list(argv))
        if argv[0] != "drbdadm":
            return Output(0, "", "")
        answer = next(answers)
        promoted = answer.returncode == 0
        return answer

    monkeypatch.setattr(storage, "run", run)
    monkeypatch.setattr("firstboot.observe.drbd", lambda: PRIMARY if promoted else READY)
    monkeypatch.setattr(storage, "POLL", 0)
    reasons: list[str] = []
    storage.bring_up(BRIEF, Places(tmp_path), reasons.append)
    assert [argv for argv in asked if argv[0] == "drbdadm"] == [["drbdadm", "primary", "r0"]] * 2
    assert "Concurrent state changes" in reasons[0]


@pytest.mark.parametrize(("groups", "error"), [((), StorageError), (("data",), CommandError)])
def test_a_volume_group_that_is_gone_is_told_with_where_its_list_is_kept(
    monkeypatch: pytest.MonkeyPatch, groups: tuple[str, ...], error: type[XenpairError]
) -> None:
    def run(argv: list[str]) -> Output:
        raise CommandError(argv, returncode=5, stderr='Volume group "data" not found')

    monkeypatch.setattr(storage, "run", run)
    monkeypatch.setattr("firstboot.observe.volume_groups", lambda: dict.fromkeys(groups))
    with pytest.raises(error) as caught:
        storage.activate("data")
    assert ("/etc/lvm/backup/data" in caught.value.hint) == (not groups)


def test_a_backing_disk_that_is_not_there_is_waited_for_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    partition = tmp_path / "by-partuuid"
    states = iter([UNCONFIGURED])
    others = BlockDevice("/dev/vdb", "disk", 1 << 30, children=(BlockDevice("/dev/vdb1", "part", 1 << 30),))
    swapped = replace(others, children=(replace(others.children[0], partlabel="xenpair-xenpair-r0"),))
    shown = iter([(others,), (swapped,)])
    asked: list[list[str]] = []

    def run(argv: Sequence[str], **_: object) -> Output:
        asked.append(list(argv))
        return Output(0, f"{partition}\n", "")

    def block_devices() -> tuple[BlockDevice, ...]:
        found = next(shown)
        if found == (swapped,):
            partition.touch()
        return found

    monkeypatch.setattr(storage, "run", run)
    monkeypatch.setattr("firstboot.observe.drbd", lambda: next(states, PRIMARY))
    monkeypatch.setattr("firstboot.observe.block_devices", block_devices)
    monkeypatch.setattr(storage, "DISK_POLL", 0)
    reasons: list[str] = []
    storage.bring_up(BRIEF, Places(tmp_path), reasons.append)
    assert reasons == [
        f"the backing partition {partition} is not there: is its disk plugged in, and does it answer?",
        f"the backing partition {partition} is not there; /dev/vdb1 is not this node's: are the disks swapped?",
    ]
    assert ["drbdadm", "adjust", "r0"] in asked
