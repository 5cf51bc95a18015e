"""The storage unit's loop, with the kernel's answers given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from config.door import Output
from firstboot import storage
from firstboot.brief import Brief
from firstboot.places import Places
from firstboot.probe.drbd import DrbdState

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
