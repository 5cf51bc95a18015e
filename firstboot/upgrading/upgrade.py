"""Carries an upgrade out on this node. Whatever stops it, the same call goes on: it does what still differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from config.door import run, write_file
from config.upgrade import OFFERED_CONFIG, OFFERED_PACKAGE, Outcome
from firstboot import ssh, storage
from firstboot import status as node_status
from firstboot.brief import Brief
from firstboot.errors import UpgradeError
from firstboot.guests import bell, creation, maintenance, verbs, wishes
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.places import Places
from firstboot.plan import upgrade as plan
from firstboot.stack import stack
from firstboot.upgrading import owed, package
from firstboot.upgrading.owed import Owed
from firstboot.upgrading.prospect import CONFIG, Prospect

GUESTS_UNIT = "xenpair-guests.service"
SLACK = 120.0
"""Seconds beyond initdead for both cluster stacks to hear each other, under emulation."""
GRUB_LIMIT = 300.0
"""Seconds for update-grub."""

Say = Callable[[str], None]


def upgrade(prospect: Prospect, say: Say, *, back: bool = False) -> Outcome:
    """Do what the prospect says, up to a reboot that it may need. back: also on a pair that is not healthy.

    Raises UpgradeError, with nothing changed, where that is refused; GuestError where the guests cannot be moved away,
    or do not come home; LockedError where another upgrade goes on; CommandError.
    """
    found, node = prospect.plan, prospect.node
    if found.refused:
        raise UpgradeError("nothing was changed:\n  " + "\n  ".join(found.refused), hint="change the rest first")
    if found.nothing_to_do:
        return Outcome(node=found.node)
    brief = Brief.of(node.cluster, node.me)
    if not back:
        _require_healthy(brief, node.places)
    with Pair(brief, node.places) as pair, ExitStack() as held:
        # What goes back may have to do so without the peer.
        if not back:
            held.enter_context(pair.lock("upgrade", what=f"upgrade of {brief.node}", wait=0))
        return _carry_out(prospect, pair, say, back=back)


def _require_healthy(brief: Brief, places: Places) -> None:
    status = node_status.status_of(brief, places)
    if status.health != "healthy":
        raise UpgradeError(
            f"nothing was changed: the pair is not healthy\n{node_status.as_text(status)}",
            hint="mend that first, or `xenpair upgrade --back`",
        )


def _carry_out(prospect: Prospect, pair: Pair, say: Say, *, back: bool) -> Outcome:
    found, places = prospect.plan, prospect.node.places
    begun = _begin(prospect, keep=not back)
    if found.moves_guests:
        maintenance.drain(pair, say)
    if prospect.package:
        say(f"{found.node}: {found.installed} -> {found.offered}")
        package.install(prospect.package)
    if prospect.package or found.unfinished:
        _renew_supervisors(pair)
    _deploy(prospect, begun.files)
    if found.reboot:
        run(["update-grub"], timeout=GRUB_LIMIT)
        return Outcome(node=found.node, reboot=found.reboot)
    if found.restart:
        say(f"{found.node}: the cluster stack is restarted")
        stack().restart()
        _await_stack(prospect)
    if begun.away:
        maintenance.rebalance(pair, say)
    _guests(prospect, pair, say)
    # Last: as long as it is the old one, a second call finds all that is still to be done.
    write_file(places.config, prospect.config, mode=0o600)
    owed.done(places)
    return Outcome(node=found.node)


def _begin(prospect: Prospect, *, keep: bool) -> Owed:
    """Keep what is there for going back, once for each upgrade, and note what this one owes."""
    found, places = prospect.plan, prospect.node.places
    target = f"{found.offered} {prospect.node.cluster.config_hash()}"
    before = owed.read(places)
    if keep and (before is None or before.target != target):
        places.back.mkdir(mode=0o700, parents=True, exist_ok=True)
        package.keep(places.back / OFFERED_PACKAGE)
        write_file(places.back / OFFERED_CONFIG, places.config.read_bytes(), mode=0o600)
    now = Owed(
        target=target,
        boot=owed.boot_id(places),
        files=tuple(dict.fromkeys([*(before.files if before else ()), *found.files])),
        restart=found.restart,
        reboot=found.reboot,
        away=found.moves_guests or (before is not None and before.away),
    )
    now.write(places)
    return now


def _renew_supervisors(pair: Pair) -> None:
    """Both: each holds a session in which the other node answers, and that goes on with the code it began with."""
    run(["systemctl", "try-restart", GUESTS_UNIT])
    run([*ssh.argv("-T"), pair.brief.peer, "systemctl", "try-restart", GUESTS_UNIT], check=False)


def _deploy(prospect: Prospect, changed: Sequence[str]) -> None:
    """Write what differs. changed: that, and what an earlier call has written, perhaps without telling anybody."""
    for path, (content, mode) in prospect.files.items():
        if path != CONFIG:
            write_file(prospect.node.places.at(path), content, mode=mode)
    for argv in plan.reloads(changed):
        run(argv)
    if any(path.startswith("etc/drbd.d/") for path in changed):
        storage.adjust(prospect.node.cluster.storage.drbd.resource)


def _await_stack(prospect: Prospect) -> None:
    limit = prospect.node.cluster.heartbeat.initdead + SLACK
    deadline = time.monotonic() + limit
    while stack().state(prospect.node.peer.name) != "up":
        if time.monotonic() > deadline:
            raise UpgradeError(
                f"the cluster stack was restarted, and has not heard {prospect.node.peer.name} within {limit:.0f} s",
                hint="see `journalctl -u heartbeat`",
            )
        time.sleep(1)


def _guests(prospect: Prospect, pair: Pair, say: Say) -> None:
    """Make or change the guests that are at home here. One that is as it is to be already stays so."""
    changed = {change.path for change in prospect.plan.changes if change.effect == "guests"}
    cluster, places = prospect.node.cluster, prospect.node.places
    there = {guest.name for guest in registry(pair.brief.volume_group)}
    for guest in cluster.guests:
        path = f"guests[{guest.name}]"
        if guest.home != pair.brief.node:
            continue
        if path in changed and guest.name not in there:
            creation.create(pair, wishes.from_config(cluster, guest), say)
            bell.ring(places)
        elif guest.name in there and any(change.startswith(f"{path}.") for change in changed):
            for note in verbs.resize(
                pair,
                guest.name,
                disk=guest.disk if f"{path}.disk" in changed else None,
                memory=guest.memory if f"{path}.memory" in changed else None,
                vcpus=guest.vcpus if f"{path}.vcpus" in changed else None,
            ):
                say(f"{guest.name}: {note}")
