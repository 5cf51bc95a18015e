"""What `xenpair guest ...` and its like do: here, or handed to the node where it has to happen."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import NoReturn

from config.sizes import parse_size
from firstboot import ssh
from firstboot.brief import known, read_brief
from firstboot.errors import GuestError
from firstboot.guests import creation, groups, headroom, maintenance, running, verbs, xl
from firstboot.guests import peer as peer_session
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.guests.supervisor import Supervisor
from firstboot.logs import log_to_journal
from firstboot.places import Places


@contextmanager
def _pair() -> Iterator[Pair]:
    places = Places()
    with Pair(known(read_brief(places.brief)), places) as pair:
        yield pair


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _size(text: str | None) -> int | None:
    """Bytes. Raises GuestError for what is no size."""
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as e:
        raise GuestError(str(e)) from e


def _hand_over(pair: Pair, words: Sequence[str], *, terminal: bool = False) -> NoReturn:
    """Have the peer do it, in this process's place."""
    argv = ssh.to_peer(pair.brief.peer, "guest", *words, terminal=terminal)
    pair.close()
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 -- an argv list, as through the door


def list_guests(arguments: argparse.Namespace) -> int:
    """All guests of the pair."""
    with _pair() as pair:
        guests, warning = verbs.listing(pair)
    if arguments.json:
        _say(json.dumps({"guests": [asdict(guest) for guest in guests], "warning": warning}, indent=1))
        return 0
    rows = [("guest", "home", "runs on", "state", "memory", "vcpus", "disk", "address")]
    rows += [
        (g.name, g.home, g.running_on or "-", g.state, _mib(g.memory), str(g.vcpus), _mib(g.disk), g.address)
        for g in guests
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        _say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for guest in guests:
        if guest.held:
            _say(f"held: {guest.held}")
    if warning:
        sys.stderr.write(f"xenpair: {warning}\n")
    return 0


def _mib(size: int) -> str:
    return f"{size >> 30}G" if size % (1 << 30) == 0 else f"{size >> 20}M"


def show(arguments: argparse.Namespace) -> int:
    """One guest."""
    with _pair() as pair:
        guest = verbs.found(pair, arguments.name)
        listed = next(row for row in verbs.listing(pair)[0] if row.name == arguments.name)
    facts = {**asdict(guest.definition), "options": dict(guest.definition.options), "disk": guest.size}
    facts |= {"running_on": listed.running_on, "state": listed.state, "held": listed.held}
    if arguments.json:
        _say(json.dumps(facts, indent=1))
        return 0
    facts |= {"memory": _mib(guest.definition.memory), "disk": _mib(guest.size)}
    facts["options"] = ", ".join(f"{key}={value}" for key, value in guest.definition.options)
    for key, value in facts.items():
        if value not in ("", None):
            _say(f"{key:11} {value}")
    return 0


def create(arguments: argparse.Namespace) -> int:
    """A new guest, started where its group is."""
    # The config's whole model, which no other verb needs.
    from firstboot.guests.wishes import from_arguments  # noqa: PLC0415

    places = Places()
    with _pair() as pair:
        wish = from_arguments(arguments, places, pair.brief.node)
        guest = creation.create(pair, wish, _say)
        if guest.wanted == "stopped":
            _say(f"{guest.name} is there, and stopped")
            return 0
        if (verbs.carrier(pair, guest.home) or pair.brief.node) == pair.brief.peer:
            _hand_over(pair, ["start", guest.name])
        verbs.start(pair, guest.name)
        _say(f"{guest.name} runs on {pair.brief.node}")
    return 0


def start(arguments: argparse.Namespace) -> int:
    """Where it was said, or where its group is."""
    with _pair() as pair:
        guest = verbs.found(pair, arguments.name).definition
        target = arguments.on or verbs.carrier(pair, guest.home) or guest.home
        if target not in (pair.brief.node, pair.brief.peer):
            raise GuestError(
                f"there is no node {target}", hint=f"the nodes are {pair.brief.node} and {pair.brief.peer}"
            )
        if target == pair.brief.peer:
            if pair.peer() is None:
                if arguments.on:
                    raise GuestError(f"{target} is off")
            else:
                _hand_over(pair, ["start", arguments.name, "--on", target])
        verbs.start(pair, arguments.name)
        _say(f"{arguments.name} runs on {pair.brief.node}")
    return 0


def _there(pair: Pair, arguments: argparse.Namespace, verb: str, *further: str) -> bool:
    """Whether the guest runs on this node; where it runs on the peer, this does not return."""
    verbs.found(pair, arguments.name)
    on = verbs.where(pair, arguments.name)
    if on == pair.brief.peer:
        _hand_over(pair, [verb, arguments.name, *further])
    return on is not None


def stop(arguments: argparse.Namespace) -> int:
    """Where it runs."""
    with _pair() as pair:
        ran = _there(pair, arguments, "stop", *(["--force"] if arguments.force else []))
        verbs.stop(pair, arguments.name, force=arguments.force)
    _say(f"{arguments.name} is stopped" if ran else f"{arguments.name} did not run, and stays off from now on")
    return 0


def restart(arguments: argparse.Namespace) -> int:
    """Where it runs."""
    with _pair() as pair:
        if not _there(pair, arguments, "restart", *(["--force"] if arguments.force else [])):
            raise GuestError(f"{arguments.name} does not run", hint=f"`xenpair guest start {arguments.name}`")
        verbs.restart(pair, arguments.name, force=arguments.force)
        _say(f"{arguments.name} runs on {pair.brief.node} again")
    return 0


def console(arguments: argparse.Namespace) -> int:
    """Become xl's console, here or there."""
    with _pair() as pair:
        verbs.found(pair, arguments.name)
        on = verbs.where(pair, arguments.name)
        if on is None:
            raise GuestError(f"{arguments.name} does not run", hint=f"`xenpair guest start {arguments.name}`")
        if on == pair.brief.peer:
            _hand_over(pair, ["console", arguments.name], terminal=True)
        argv = xl.console(arguments.name)
    os.execvp(argv[0], argv)  # noqa: S606


def move(arguments: argparse.Namespace) -> int:
    """From where it runs."""
    with _pair() as pair:
        if not _there(pair, arguments, "move"):
            raise GuestError(
                f"{arguments.name} does not run",
                hint=f"`xenpair guest start {arguments.name} --on NODE` starts it anywhere",
            )
        verbs.move(pair, arguments.name, _say)
        _say(f"{arguments.name} runs on {pair.brief.peer}")
    return 0


def migrate(arguments: argparse.Namespace) -> int:
    """From where it runs, or (--check) what would prevent it."""
    with _pair() as pair:
        _there(pair, arguments, "migrate", *(["--check"] if arguments.check else []))
        if arguments.check:
            found = verbs.hindrances(pair, arguments.name)
            _say("\n".join(found) or f"nothing prevents a live migration of {arguments.name} to {pair.brief.peer}")
            return 2 if found else 0
        verbs.migrate(pair, arguments.name)
        _say(f"{arguments.name} runs on {pair.brief.peer}")
    return 0


def resize(arguments: argparse.Namespace) -> int:
    """From either node."""
    disk, memory = _size(arguments.disk), _size(arguments.memory)
    if disk is None and memory is None and arguments.vcpus is None:
        raise GuestError("nothing to change", hint="give one of --disk, --memory, --vcpus")
    if arguments.vcpus is not None and not 1 <= arguments.vcpus <= 128:
        raise GuestError(f"{arguments.vcpus} is no number of CPUs", hint="1 to 128")
    with _pair() as pair:
        for note in verbs.resize(pair, arguments.name, disk=disk, memory=memory, vcpus=arguments.vcpus):
            _say(note)
    return 0


def delete(arguments: argparse.Namespace) -> int:
    """After its name has been typed."""
    with _pair() as pair:
        guest = verbs.found(pair, arguments.name)
        sys.stdout.write(
            f"This removes {guest.name} and its disk of {_mib(guest.size)}, on both nodes, for good.\n"
            f"Type `{guest.name}`: "
        )
        sys.stdout.flush()
        if input().strip() != guest.name:
            raise GuestError(f"not deleted: `{guest.name}` was to be typed")
        verbs.delete(pair, guest.name)
        _say(f"{guest.name} is deleted")
    return 0


def drain(arguments: argparse.Namespace) -> int:  # noqa: ARG001  every action has the same signature
    """Everything off this node."""
    with _pair() as pair:
        maintenance.drain(pair, _say)
    return 0


def rebalance(arguments: argparse.Namespace) -> int:
    """Everything home."""
    with _pair() as pair:
        maintenance.rebalance(pair, _say, this_side=arguments.this_side)
    return 0


def capacity(arguments: argparse.Namespace) -> int:
    """The what-if."""
    with _pair() as pair:
        return headroom.show(pair, json_wanted=arguments.json, say=_say)


def group(arguments: argparse.Namespace) -> int:
    """The cluster stack's word."""
    log_to_journal()
    places = Places()
    if arguments.direction == "start":
        groups.carry(places, arguments.group)
        return 0
    groups.release(places, arguments.group)
    brief = known(read_brief(places.brief))
    guests = [guest.name for guest in registry(brief.volume_group) if guest.definition.home == arguments.group]
    running.end_all(guests)
    return 0


def peer(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """The server behind the peer's session."""
    log_to_journal()
    places = Places()
    brief = known(read_brief(places.brief))

    def start_it(name: str) -> None:
        with Pair(brief, places) as pair:
            verbs.start_for_peer(pair, name)

    peer_session.serve(places, brief, sys.stdin, sys.stdout, start_it)
    return 0


def supervise(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    """For as long as the node is up."""
    places = Places()
    Supervisor(known(read_brief(places.brief)), places).run()
    return 0
