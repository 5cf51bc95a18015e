"""The xenpair command of a node: what the administrator types, and what the units call."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from config.door import run
from config.errors import XenpairError
from firstboot.errors import NodeError
from firstboot.guests import guest_command
from firstboot.logs import log_to_journal
from firstboot.places import Places
from firstboot.upgrading import upgrade_command

log = logging.getLogger("xenpair")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, act, and turn an error into one message and an exit code."""
    arguments = _parser().parse_args(argv)
    level = logging.DEBUG if arguments.verbose else logging.INFO
    logging.basicConfig(level=level, format="xenpair: %(message)s", stream=sys.stderr)
    if os.geteuid() != 0:
        sys.stderr.write("xenpair: only root can ask this: run it as root\n")
        return 1
    action: Callable[[argparse.Namespace], int] = arguments.action
    try:
        return action(arguments)
    except XenpairError as e:
        sys.stderr.write(f"xenpair: {e}\n")
        return e.exit_code
    except EOFError:
        sys.stderr.write("xenpair: nothing was typed, so nothing is done\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xenpair", description="One of the two nodes of a xenpair cluster.")
    parser.add_argument("--verbose", action="store_true", help="show each program that is run")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    status = commands.add_parser("status", help="how this node is; exit 0 healthy, 2 degraded, 1 failed")
    status.add_argument("--json", action="store_true", help="for scripts")
    status.add_argument("--wait", action="store_true", help="return once the pair is formed, or first boot has failed")
    status.set_defaults(action=_status)

    plan = commands.add_parser("plan", help="the steps of first boot: done, next, later")
    plan.set_defaults(action=_plan)

    resume = commands.add_parser("resume", help="let first boot go on after what stopped it has been mended")
    resume.set_defaults(action=_resume)

    first_boot = commands.add_parser("first-boot", help="(the unit's) run first boot in the foreground")
    first_boot.set_defaults(action=_first_boot)

    storage = commands.add_parser("storage", help="(the unit's) bring the replicated storage up or down")
    storage.add_argument("direction", choices=["up", "down"])
    storage.set_defaults(action=_storage)

    replace = commands.add_parser("replace", help="make room for a new machine in the dead peer's place")
    replace.add_argument("node", help="the dead node's name, which the new one takes over")
    replace.add_argument("--config", help="cluster.yaml with the new machine's MAC addresses, serials, BMC")
    replace.set_defaults(action=_replace)

    disk = commands.add_parser(
        "replace-disk", help="take a blank disk, or one that was out, into the mirror that lacks a half"
    )
    disk.add_argument("serial", help="its serial, as `lsblk -o PATH,SERIAL` shows it")
    disk.add_argument("--of", choices=("system", "backing"), help="which mirror, where both lack a half")
    disk.set_defaults(action=_replace_disk)

    event = commands.add_parser("mirror-event", help="(mdadm's) something has happened to a mirror")
    event.add_argument("what", nargs="+")
    event.set_defaults(action=_mirror_event)

    fence = commands.add_parser("fence", help="when the peer is lost and nothing else can tell that it is off")
    fence.add_argument(
        "--confirm-peer-is-off",
        metavar="NODE",
        required=True,
        help="your word that NODE has no power; to be typed out, logged, and used once",
    )
    fence.set_defaults(action=_confirm)

    _add_split_brain(commands)
    guest_command.add_to(commands)
    upgrade_command.add_to(commands)

    fence_peer = commands.add_parser("fence-peer", help="(DRBD's) fence the peer; exit 7 only when it is proven off")
    fence_peer.add_argument("--until-proven", action="store_true", help="(the unit's) go on where DRBD's handler ended")
    fence_peer.add_argument("--heartbeat", metavar="HOST", help="(the STONITH plugin's) heartbeat asks it of HOST")
    fence_peer.set_defaults(action=_fence_peer)

    switch_on = commands.add_parser("switch-on-peer", help="(fencing's) give the peer its power back")
    switch_on.set_defaults(action=_switch_on)
    return parser


def _add_split_brain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("split-brain", help="what each side wrote since both went on alone, and whose is kept")
    parser.add_argument("--json", action="store_true", help="for scripts")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--keep", metavar="NODE", help="discard what the other node wrote since; to be typed out")
    what.add_argument("--copy", metavar="VOLUME", help="write this side's content of a volume to standard output")
    what.add_argument("--noticed", action="store_true", help="(DRBD's) it has found a split brain")
    what.add_argument(
        "--act", choices=["look", "part", "give-up", "go-on", "rejoin", "meet"], help="(the peer's) a step of it"
    )
    parser.add_argument("generation", nargs="?", default="", help=argparse.SUPPRESS)
    parser.set_defaults(action=_split_brain)


def _status(arguments: argparse.Namespace) -> int:
    from firstboot import status as node_status
    from firstboot.brief import read_brief

    places = Places()
    if arguments.wait:
        while node_status.firstboot_status(places).state not in ("done", "failed"):
            time.sleep(1)
    brief = read_brief(places.brief)
    if brief is None:
        now = node_status.without_identity(places, socket.gethostname())
    else:
        now = node_status.status_of(brief, places)
    sys.stdout.write((node_status.as_json(now) if arguments.json else node_status.as_text(now)) + "\n")
    return now.exit_code


def _plan(arguments: argparse.Namespace) -> int:  # noqa: ARG001  every action has the same signature
    from firstboot.journal import Journal
    from firstboot.plan.outline import outline
    from firstboot.runner import STEPS

    journal = Journal(Places().journal)
    done = [step.name for step in STEPS if journal.is_done(step.name)]
    for number, step in enumerate(outline([(step.name, step.text) for step in STEPS], done), 1):
        sys.stdout.write(f"{number}  {step.state:5}  {step.name:10} {step.text}\n")
    return 0


def _resume(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    if Places().formed.exists():
        sys.stdout.write("first boot is done; nothing to resume\n")
        return 0
    run(["systemctl", "restart", "xenpair-firstboot.service"])
    sys.stdout.write("first boot goes on; `xenpair status --wait` waits for it\n")
    return 0


def _replace(arguments: argparse.Namespace) -> int:
    from firstboot.replacement import replace_peer

    replace_peer(Places(), arguments.node, Path(arguments.config) if arguments.config else None)
    sys.stdout.write("this node awaits the new machine; `xenpair status` shows how far it is\n")
    return 0


def _replace_disk(arguments: argparse.Namespace) -> int:
    from firstboot.new_half import replace_disk

    log_to_journal()

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    say(replace_disk(Places(), arguments.serial, say, arguments.of))
    return 0


def _mirror_event(arguments: argparse.Namespace) -> int:
    from firstboot import mirrors

    # mdadm's monitor hands on what is said here, so the journal has it.
    log.warning("mdadm: %s", " ".join(arguments.what))
    for record in (Places().mirror, Places().system_mirror):
        mirrors.note(record)
    return 0


def _first_boot(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    from firstboot.runner import first_boot

    first_boot(Places())
    return 0


def _storage(arguments: argparse.Namespace) -> int:
    from firstboot import storage
    from firstboot.brief import known, read_brief
    from firstboot.report import Reporter

    places = Places()
    brief = known(read_brief(places.brief))
    if arguments.direction == "down":
        from firstboot.guests import running

        # Also those at home on the peer: where their disks go, they cannot stay.
        storage.take_down(brief, lambda: running.end_every(brief.volume_group))
        return 0
    reporter = Reporter(places.storage_progress, ("storage",))
    reporter.begin("storage")
    storage.bring_up(brief, places, reporter.waiting)
    formed = places.formed.exists()
    if formed:
        storage.activate(brief.volume_group)
        # Where the power failed before first boot could do so.
        places.reporting.unlink(missing_ok=True)
    reporter.done("storage")
    if formed:
        reporter.formed()
    return 0


FENCED = 7
"""Exit code of a fence-peer handler that has fenced the peer (drbd.conf(5) of 8.4); 1 leaves I/O frozen."""


def _confirm(arguments: argparse.Namespace) -> int:
    from firstboot import fencing
    from firstboot.brief import known, read_fencing_brief

    log_to_journal()
    places = Places()
    fencing.confirm(known(read_fencing_brief(places.fencing)), places, arguments.confirm_peer_is_off, input)
    sys.stdout.write("noted; `xenpair status` shows what comes of it\n")
    return 0


def _fence_peer(arguments: argparse.Namespace) -> int:
    from firstboot import fencing
    from firstboot.brief import known, read_brief, read_fencing_brief

    log_to_journal()
    places = Places()
    peer, resource = known(read_fencing_brief(places.fencing)), known(read_brief(places.brief)).resource
    if arguments.heartbeat is not None:
        if arguments.heartbeat != peer.peer:
            raise NodeError(f"this node fences {peer.peer}, and was asked to fence {arguments.heartbeat}")
        if fencing.fence("heartbeat", peer, places, resource, limit=fencing.HANDLER_LIMIT):
            return FENCED
        # Also where DRBD's handler never came, which would have.
        fencing.pursue()
        return 1
    if arguments.until_proven:
        fencing.fence("pursuit", peer, places, resource)
        return 0
    # At once, for it waits for this flight's end, and is there whatever becomes of this process.
    fencing.pursue()
    if fencing.fence("drbd", peer, places, resource, limit=fencing.HANDLER_LIMIT):
        return FENCED
    # Once more, for nobody heard what became of the first time.
    fencing.pursue()
    return 1


def _switch_on(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    from firstboot import fencing
    from firstboot.brief import known, read_fencing_brief

    log_to_journal()
    places = Places()
    fencing.switch_on(known(read_fencing_brief(places.fencing)), places)
    return 0


def _split_brain(arguments: argparse.Namespace) -> int:
    from firstboot import divergence, settlement, split_brain
    from firstboot.brief import known, read_brief

    places = Places()
    brief = known(read_brief(places.brief))
    if arguments.copy:
        settlement.copy(brief, arguments.copy, sys.stdout.buffer)
    elif arguments.act == "look":
        sys.stdout.write(split_brain.as_json(split_brain.look(brief)) + "\n")
    elif arguments.noticed or arguments.act or arguments.keep:
        log_to_journal()
        if arguments.noticed:
            settlement.notice(brief, places)
        elif arguments.act:
            settlement.act(brief, places, arguments.act, arguments.generation)
        else:
            settlement.keep(brief, places, arguments.keep, input)
            sys.stdout.write("done; `xenpair status` shows how far the copying is\n")
    else:
        mine, peer = split_brain.both(brief)
        sys.stdout.write((divergence.as_json if arguments.json else divergence.as_text)(mine, peer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
