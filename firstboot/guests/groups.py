"""Guest groups: what the cluster stack hands to one node or the other. One a node, named after it: its home guests.

The stack only says who carries a group. It never waits for a guest and never learns that one failed, so that one guest
that cannot run makes it bounce nothing.
"""

from __future__ import annotations

import logging

from config.door import write_file
from firstboot.guests import bell
from firstboot.places import Places

log = logging.getLogger("xenpair")


def carry(places: Places, group: str) -> None:
    """This node carries the group from now on; its supervisor is told."""
    write_file(places.groups / group, "")
    log.info("guests: this node carries the guests of %s", group)
    bell.ring(places)


def release(places: Places, group: str) -> None:
    """This node does not carry the group any more; carried or not before."""
    (places.groups / group).unlink(missing_ok=True)


def carried(places: Places) -> tuple[str, ...]:
    """The groups that this node carries; none after a boot, until the stack hands them out."""
    try:
        return tuple(sorted(path.name for path in places.groups.iterdir() if not path.name.startswith(".")))
    except FileNotFoundError:
        return ()
