"""Runs on a node, fed to its python3: creates, resizes and deletes guests' volumes, through the code behind the verbs.

    python3 - CALLER CALLS     prints what each call has done, once it is done: create|resize|delete NAME BYTES

Each call is announced before it is made, so that one which the power cut off is known.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

sys.path.insert(0, "/usr/lib/xenpair")

from config.errors import XenpairError
from firstboot.brief import known, read_brief
from firstboot.guests import volumes
from firstboot.guests.definition import Definition
from firstboot.guests.pair import Pair
from firstboot.places import Places

SMALL, LARGE = 4 << 20, 8 << 20
"""Bytes: an extent, and two."""
KEPT = 5
"""Of so many volumes one is not deleted again."""


def calls(caller: str, count: int) -> Iterator[tuple[str, str, int]]:
    """What is called, in its order: a volume is created, grows, and mostly goes."""
    made = 0
    number = 0
    while made < count:
        name = f"v-{caller}-{number}"
        steps = [("create", name, SMALL), ("resize", name, LARGE)]
        if number % KEPT:
            steps.append(("delete", name, 0))
        for step in steps[: count - made]:
            yield step
            made += 1
        number += 1


def call(pair: Pair, what: str, name: str, size: int) -> None:
    """Make one call. Raises XenpairError."""
    with pair.lock(f"guest/{name}", what=f"{what} {name}", wait=600):
        if what == "create":
            guest = Definition(
                name, pair.brief.node, 64 << 20, 1, "pv", "xenbr0", "00:16:3e:00:00:01", wanted="stopped"
            )
            volumes.create(pair, replace(guest, phase="making"), size)
            volumes.finish(pair, guest)
        elif what == "resize":
            volumes.resize(pair, name, size)
        else:
            volumes.remove(pair, name)


def main() -> None:
    """Until all are made, or one is refused."""
    places = Places()
    with Pair(known(read_brief(places.brief)), places) as pair:
        for what, name, size in calls(sys.argv[1], int(sys.argv[2])):
            sys.stdout.write(f"begin {name} {size}\n")
            sys.stdout.flush()
            try:
                call(pair, what, name, size)
            except XenpairError as e:
                sys.stdout.write(f"refused {name} {' '.join(str(e).split())}\n")
                return
            sys.stdout.write(f"{what} {name} {size}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
