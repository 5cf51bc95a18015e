"""What wakes the supervisor, and what is left of it when the supervisor dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firstboot.guests import bell
from firstboot.guests.bell import Bell, ring
from firstboot.places import Places

REPOSITORY = Path(__file__).parents[2]
SUPERVISOR = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from firstboot.guests import bell
from firstboot.places import Places
bell.XENSTORE_WATCH = ("sleep", "60")
with bell.Bell(Places(Path(sys.argv[2]))) as it:
    it.wait(0.1)
    print(it._xen.pid, flush=True)
    it.wait(60)
"""


def test_a_ring_wakes_whoever_waits(real_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "XENSTORE_WATCH", ("sleep", "60"))
    places = Places(tmp_path)
    ring(places)
    with Bell(places) as it:
        assert not it.wait(0.1)
        ring(places)
        assert it.wait(60)
        assert not it.wait(0.1)


def test_what_xen_tells_wakes_too(real_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "XENSTORE_WATCH", ("sh", "-c", "sleep 0.2; echo @releaseDomain; exec sleep 60"))
    with Bell(Places(tmp_path)) as it:
        assert it.wait(60)


def test_a_supervisor_that_is_killed_leaves_nobody_watching(real_programs: None, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SUPERVISOR, str(REPOSITORY), str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        watcher = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while running(watcher):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(pid: int) -> bool:
    """Whether it is more than a dead process that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
