"""Runs on a node, fed to its python3: creates, resizes and deletes guests' volumes, through the code behind the verbs.

    python3 - CALLER CALLS     prints what each call has done, once it is done: create|resize|delete NAME BYTES

Each call is announced before it is made, so that one which the power cut off is known. One that is refused is told, and
what was to follow for that volume is left out; a while later the next volume has its turn.
"""

from __future__ import annotations

import sys
import time
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
PAUSE = 15.0
"""Seconds after a refusal: a node that lost its power needs a hundred to be back, and so long all are refused."""


def volumes_of(caller: str, count: int) -> Iterator[list[tuple[str, str, int]]]:
    """So many calls, by volume, each in its order: it is created, grows, and mostly goes."""
    number = 0
    while count > 0:
        name = f"v-{caller}-{number}"
        steps = [("create", name, SMALL), ("resize", name, LARGE)]
        if number % KEPT:
            steps.append(("delete", name, 0))
        yield steps[:count]
        count -= len(steps)
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
    """Until each has had its turn."""
    places = Places()
    with Pair(known(read_brief(places.brief)), places) as pair:
        for steps in volumes_of(sys.argv[1], int(sys.argv[2])):
            try:
                for what, name, size in steps:
                    tell(f"begin {name} {size}")
                    call(pair, what, name, size)
                    tell(f"{what} {name} {size}")
            except XenpairError as e:
                tell(f"refused {name} {' '.join(str(e).split())}")
                time.sleep(PAUSE)


def tell(line: str) -> None:
    """At once, since the power may go."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
