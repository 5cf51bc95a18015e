"""What guests' volumes rest on: what LVM and DRBD say, and the guard between people and the shared volume group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.door import run
from firstboot.errors import ProbeError
from firstboot.plan.survival import peer_state
from firstboot.probe.drbd import UNCONFIGURED, DrbdState
from firstboot.probe.lvm import parse_lvs
from images.deb import GUARDED, payload
from tests.unit import guests_rig as rig
from tests.unit.guests_rig import FROZEN, RESYNC, SURVIVOR, WHOLE

MIB = 1 << 20


# What LVM and DRBD say.


def test_the_tags_of_a_real_volume_are_read(captured: Path) -> None:
    (volume,) = parse_lvs((captured / "lvs-tags.json").read_text())
    assert (volume.name, volume.size) == ("t1", 8 * MIB)
    assert volume.tags == ("a:b/c#20&x=!y", "xenpair.guest", "xenpair.memory=256M")


@pytest.mark.parametrize("text", ["", "[]", '{"report": [{"vg": []}]}', '{"report": [{"lv": [{"lv_name": "x"}]}]}'])
def test_what_is_no_report_of_volumes_is_refused(text: str) -> None:
    with pytest.raises(ProbeError, match="lvs printed what is not its JSON report"):
        parse_lvs(text)


@pytest.mark.parametrize(
    ("drbd", "state"),
    [
        (WHOLE, "connected"),
        (RESYNC, "connected"),
        (replace(WHOLE, role="Secondary"), "connected"),
        (replace(WHOLE, suspended=True), "connected"),
        (SURVIVOR, "off"),
        (replace(SURVIVOR, connection="StandAlone"), "off"),
        (replace(SURVIVOR, connection="Unconnected"), "off"),
        (replace(SURVIVOR, role="Secondary"), "unknown"),
        # Something answers, and DRBD does not know yet what.
        (replace(SURVIVOR, connection="WFReportParams"), "unknown"),
        (replace(SURVIVOR, connection="NetworkFailure"), "unknown"),
        (FROZEN, "unknown"),
        (UNCONFIGURED, "unknown"),
    ],
)
def test_the_peer_is_off_only_where_drbd_goes_on_without_it(drbd: DrbdState, state: str) -> None:
    assert peer_state(drbd) == state
    # Of a peer that has gone on alone as well nothing is known, unless it is there.
    assert peer_state(drbd, split=True) == ("connected" if state == "connected" else "unknown")


# What keeps people from changing the group by hand.


@pytest.fixture
def guard(tmp_path: Path) -> Path:
    """As it is installed for lvcreate, below another root."""
    file = payload(rig.REPOSITORY)["usr/local/sbin/lvcreate"]
    assert file.executable
    path = tmp_path / "usr/local/sbin/lvcreate"
    path.parent.mkdir(parents=True)
    text = file.data.decode().replace("/var/lib/xenpair/", f"{tmp_path}/").replace('"/usr/sbin/', f'"{tmp_path}/real-')
    path.write_text(text)
    path.chmod(0o755)
    (tmp_path / "real-lvcreate").write_text('#!/bin/sh\necho real "$#" "$2"\n')
    (tmp_path / "real-lvcreate").chmod(0o755)
    return path


def test_until_the_pair_is_formed_the_guard_steps_aside(real_programs: None, guard: Path) -> None:
    assert run([guard, "--name", "two words"]).stdout == "real 2 two words\n"


def test_on_a_formed_pair_the_guard_says_what_to_use_instead(real_programs: None, guard: Path, tmp_path: Path) -> None:
    (tmp_path / "formed").touch()
    output = run([guard, "--name", "x"], check=False)
    assert output.returncode == 5
    assert "xenpair guest create|resize|delete" in output.stderr
    assert "/usr/sbin/lvcreate is the real one" in output.stderr
    assert "lvcreate: not by hand" in output.stderr


def test_every_command_that_changes_the_group_is_guarded_and_none_that_does_not() -> None:
    files = {Path(name).name for name in payload(rig.REPOSITORY) if name.startswith("usr/local/sbin/")}
    assert files == set(GUARDED)
    assert {"lvcreate", "lvremove", "lvextend", "lvresize"} <= files
    assert not files & {"lvs", "vgs", "pvs", "lvchange", "vgchange", "vgcreate", "lvdisplay"}
