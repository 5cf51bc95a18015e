"""A node's mirrors, below DRBD and of its system, where it has them: the record, how one is, which half is out.

The record outlives a reboot, and the loss of either half. Which half is out is written down when it happens, by md's
monitor, and at each boot before DRBD writes to the other one, by the storage unit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from config.door import run, write_file
from firstboot import observe
from firstboot.errors import NodeError
from firstboot.places import Places
from firstboot.plan.mirror import Half, Mirror, Standing, advice, noted, standing
from firstboot.probe.mirror import Array

log = logging.getLogger("xenpair")


def write(path: Path, mirror: Mirror) -> None:
    """Keep the record."""
    write_file(path, json.dumps(asdict(mirror), indent=1) + "\n")


def read(path: Path) -> Mirror | None:
    """The record, or None on a node without such a mirror. Raises NodeError for what is none."""
    try:
        raw = json.loads(path.read_text())
        first, second = (Half(**half) for half in raw["halves"])
        return Mirror(raw["array"], (first, second), tuple(raw["out"]), raw.get("bare", ""))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as e:
        raise NodeError(
            f"{path} is not what was written there: {e}", hint="see `mdadm --examine`; write it anew by hand"
        ) from e


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """The record for oneself, to be read and written anew: md's events come while somebody replaces a disk."""
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def look(mirror: Mirror) -> tuple[Array | None, dict[str, str]]:
    """What the kernel says of the array, and how it calls the halves that are there, by PARTUUID."""
    names = {half.partuuid: name for half in mirror.halves if (name := observe.kernel_name(half.partition))}
    name = observe.kernel_name(mirror.device)
    return (observe.array(name) if name else None), names


def status(path: Path) -> tuple[Mirror, Standing] | None:
    """How the mirror of that record is; None where there is none. Raises NodeError."""
    mirror = read(path)
    return (mirror, standing(mirror, *look(mirror))) if mirror else None


def note(path: Path) -> Standing | None:
    """Write down who is out now, and tell how the mirror is; None where there is none. Raises NodeError."""
    if not path.exists():
        return None
    with held(path):
        mirror = read(path)
        if mirror is None:
            return None
        array, names = look(mirror)
        now = noted(mirror, array, names)
        if now != mirror:
            log.warning("%s: out of the mirror is now %s", path.stem, " and ".join(now.out) or "nobody")
            write(path, now)
        return standing(mirror, array, names)


def admit(places: Places, waiting: Callable[[str], None], pause: Callable[[], None]) -> None:
    """Return once what is on this node's mirror, if it has one, is what was written to it last.

    Waits for as long as it takes. To DRBD the old content of a half is no other generation: nobody else would notice.
    """
    while (now := note(places.mirror)) is not None and now.state == "outdated":
        mirror = read(places.mirror)
        waiting(f"the mirror below DRBD is outdated: {advice(now, mirror)}" if mirror else "the mirror is outdated")
        pause()


def stop_holders(half: Half) -> None:
    """Stop whatever array udev has begun to put together from that half."""
    name = observe.kernel_name(half.partition)
    for holder in observe.holders(name) if name else ():
        run(["mdadm", "--stop", os.fspath(Path("/dev", holder))])
