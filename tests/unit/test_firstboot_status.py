"""What status makes of a node that changes while it is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import CommandError
from firstboot import observe, status
from firstboot.brief import Brief
from firstboot.places import Places
from firstboot.probe.drbd import DrbdState
from tests.unit.fencing_rig import LOST, NO_BMC

BRIEF = Brief("xen1", "xen2", True, "r0", "data")
WHOLE = DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A formed node, whose LVM does not answer."""

    def volume_groups(glance: float) -> None:
        raise CommandError(["vgs"], None, "", what=f"no end after {glance:.0f} s, killed")

    monkeypatch.setattr(observe, "volume_groups", volume_groups)
    monkeypatch.setattr(observe, "heartbeat", lambda _: "up")
    places = Places(tmp_path)
    places.formed.parent.mkdir(parents=True)
    places.formed.write_text("")
    return places


def test_a_disk_that_freezes_between_two_looks_is_told_of(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([WHOLE, LOST])
    monkeypatch.setattr(observe, "drbd", lambda: next(looks))
    found = status.status_of(BRIEF, places)
    assert found.health == "degraded"
    assert found.drbd.suspended
    assert found.lvm.volume_group is None


def test_an_lvm_that_does_not_answer_although_nothing_is_frozen_is_an_error(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "drbd", lambda: WHOLE)
    with pytest.raises(CommandError, match="vgs: no end after 20 s"):
        status.status_of(BRIEF, places)


def test_a_split_brain_is_not_sent_to_fencing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its I/O is frozen, and nothing that fencing proves would end that."""
    NO_BMC.write(places.fencing)
    places.split_brain.parent.mkdir(parents=True)
    assert status.fencing_status(LOST, places).state == "unready"
    places.split_brain.write_text("{}")
    assert status.fencing_status(LOST, places).state == "by-hand"
