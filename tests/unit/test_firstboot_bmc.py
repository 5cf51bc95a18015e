"""The BMC behind its seam, and what the node remembers of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.door import Output
from firstboot import bmc
from firstboot.brief import read_fencing_brief
from firstboot.errors import BmcError
from tests.unit.fencing_rig import BMC, BRIEF


def test_the_password_goes_through_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []

    def run(argv: list[str], *, env: dict[str, str], **_: object) -> Output:
        seen.append((argv, env))
        return Output(0, "Chassis Power is on\n", "")

    monkeypatch.setattr(bmc, "run", run)
    assert bmc.bmc_of(BMC).power() == "on"
    ((argv, env),) = seen
    assert "hidden-password" not in " ".join(argv)
    assert env == {"IPMI_PASSWORD": "hidden-password"}
    assert "hidden-password" not in repr(BRIEF)


@pytest.mark.parametrize("text", ["", "Chassis Power is ", "Chassis Power is unknown", "Error\nChassis Power is off x"])
def test_anything_but_a_clear_answer_is_no_answer(text: str) -> None:
    with pytest.raises(BmcError):
        bmc.parse_power(text)


def test_the_brief_survives_the_disk_and_is_roots_alone(tmp_path: Path) -> None:
    path = tmp_path / "fencing.json"
    BRIEF.write(path)
    assert read_fencing_brief(path) == BRIEF
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["bmc"]["password"] == "hidden-password"
    assert read_fencing_brief(tmp_path / "none") is None
