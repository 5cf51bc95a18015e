"""The only place that calls xl. It asks nobody and proves nothing: see firstboot.guests.running for that.

xl never stays behind to watch a domain (-e), so what has ended stays as it is until we destroy it. Guests' names may be
numbers, which xl takes for the number of a domain: it is always given the number.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

from config.door import Output, run, write_file
from config.errors import CommandError
from firstboot import ssh
from firstboot.errors import GuestError, ProbeError
from firstboot.guests.definition import Definition
from firstboot.guests.domain_config import domain_uuid, xl_config
from firstboot.places import Places
from firstboot.probe.xen import Domain, Hypervisor, parse_hypervisor, parse_xl_list

log = logging.getLogger("xenpair")

ANSWER_LIMIT = 60.0
"""Seconds for what only asks, or only hands on a request: it takes less than one on a node that is not starved."""
CREATE_LIMIT = 300.0
"""Seconds; xl makes one domain at a time, and libxl alone waits 40 s for each hotplug script (libxl_internal.h)."""
DESTROY_LIMIT = 120.0
MIGRATION_LIMIT = 600.0
"""Seconds for all of a guest's memory to move: 64 GiB at 1 Gbit/s."""
RESUME_LIMIT = 60.0
"""Seconds that xl gets, when its transport has been cut after MIGRATION_LIMIT, to go on with the guest at this end."""
POLL = 2.0
"""Seconds between two looks at a guest that shuts down."""
LAST_LINES = 4
"""Of an error of xl: with libxl, one failure runs through several layers, and each says its line."""

_NOISE = re.compile(
    r"Parsing config from|Shutting down domain|Saving to |Loading new save file|\s*Savefile contains|xc: info|"
    r"migration (target: (Ready|Transfer complete|Got permission|Domain started)|"
    r"sender: (Target has acknowledged|Giving target|Target reports successful))|"
    # What follows when libxl clears up after a failure.
    r"libxl: error: \S*(destroy_domid|domain_destroy_callback|domain_destroy_cb|devices_destroy_cb):"
)
_PREFIX = re.compile(r"^(libxl|libxl-save-helper|xl|xc): (fatal|critical|error|warning): (libxl\w*\.c:\d+:\s?\w+: )?")


def domains() -> tuple[Domain, ...]:
    """All domains of this node. Raises CommandError where Xen does not answer: that is not the same as none."""
    return parse_xl_list(_xl("list", "-v").stdout)


def hypervisor() -> Hypervisor:
    """This node's Xen. Raises CommandError, ProbeError."""
    return parse_hypervisor(_xl("info").stdout)


def create(definition: Definition, volume_group: str, places: Places) -> None:
    """Start it. The caller holds the guest's lock, and knows that it runs nowhere.

    Raises CommandError where Xen refuses, with nothing left of it; GuestError for a definition that cannot be written.
    """
    file = config_file(places, definition.name)
    write_file(file, xl_config(definition, volume_group, os.uname().release), mode=0o600)
    try:
        _xl("create", "-e", str(file), timeout=CREATE_LIMIT)
    except (CommandError, KeyboardInterrupt) as e:
        # xl clears up after itself, unless it was killed: then its domain stays, paused before its first instruction.
        if not isinstance(e, CommandError) or e.returncode is None:
            _clear_half_made(definition.name)
        raise


def config_file(places: Places, name: str) -> Path:
    """What xl was last given for that guest on this node; gone at the next boot."""
    return places.at("run/xenpair/guests") / f"{name}.cfg"


def _clear_half_made(name: str) -> None:
    """By its UUID, since xl gives it its name only after a while."""
    uuid = str(domain_uuid(name))
    try:
        for domain in domains():
            if domain.uuid == uuid:
                destroy(domain.domid)
    except (CommandError, ProbeError) as e:
        log.warning("guests: what was begun of %s may still be here: %s", name, e)


def ask_to_shut_down(domain: Domain) -> None:
    """Once. Raises CommandError where its kernel does not listen, as one that still boots."""
    _xl("shutdown", str(domain.domid))


def shutdown(domain: Domain, limit: float) -> bool:
    """Ask it to shut down, again and again where it does not listen; False where it is still on after limit seconds.

    Raises CommandError or ProbeError where Xen does not answer.
    """
    deadline, asked = time.monotonic() + limit, False
    while True:
        now = next((one for one in domains() if one.domid == domain.domid), None)
        if now is None or now.ended:
            return True
        if not asked and now.state != "dying":
            try:
                ask_to_shut_down(now)
                asked = True
            except CommandError as e:
                log.debug("guests: %s does not listen: %s", domain.guest, e)
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)


def destroy(domid: int) -> None:
    """Cut its power and remove what Xen knows of it; nothing where it is gone. Raises CommandError, ProbeError."""
    try:
        _xl("destroy", str(domid), timeout=DESTROY_LIMIT)
    except CommandError:
        if any(domain.domid == domid for domain in domains()):
            raise


def migrate(name: str, peer: str, limit: float = MIGRATION_LIMIT) -> None:
    """Move it to the peer while it runs. The caller holds its lock on both nodes.

    Raises GuestError where it is not here, CommandError where xl failed or took longer than limit seconds: mostly it
    runs on here then, but only a look at both nodes tells.
    """
    # Cut at the transport, xl resumes the guest here; killed itself, xl would leave it suspended.
    transport = " ".join(["timeout", "--foreground", f"{limit:.0f}", *ssh.argv()])
    _xl("migrate", "-e", "-s", transport, str(_number(name)), peer, timeout=limit + RESUME_LIMIT)


def console(name: str) -> tuple[str, ...]:
    """The program that attaches this terminal to its console. Raises GuestError where it is not here."""
    return ("xl", "console", str(_number(name)))


def _number(name: str) -> int:
    for domain in domains():
        if domain.name == name:
            return domain.domid
    raise GuestError(f"{name} does not run on this node", hint="`xenpair guest list` shows both nodes")


def _xl(*arguments: str, timeout: float = ANSWER_LIMIT) -> Output:
    try:
        return run(["xl", *arguments], timeout=timeout)
    except CommandError as e:
        raise CommandError(e.argv, e.returncode, last_words(e.stderr), what=e.what) from e


def last_words(stderr: str) -> str:
    """The last lines of what xl said that tell why it failed, without what tells libxl's authors where."""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    telling = [line for line in lines if not _NOISE.match(line)] or lines
    return "\n".join(_PREFIX.sub("", line) for line in telling[-LAST_LINES:])
