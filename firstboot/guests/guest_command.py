"""The words of `xenpair guest ...` and its like, and their help. What they do is in firstboot.guests.actions."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

Action = Callable[[argparse.Namespace], int]
Commands = argparse._SubParsersAction  # noqa: SLF001 -- argparse has no public name for it

GUEST_TEXT = """\
A guest is a logical volume of the replicated volume group and lives on one node at a time. All of this can be typed
on either node; what has to happen on the other one is done there.

  xenpair guest create web01 --home xen1 --memory 512M --disk 4G --tarball debian.tar.zst
  xenpair guest migrate web01           # to the other node, while it runs
  xenpair guest stop web01              # and it stays off, whatever happens to a node
"""


def add_to(commands: Commands[argparse.ArgumentParser]) -> None:
    """The commands that have to do with guests."""
    guest = commands.add_parser(
        "guest",
        help="the guests: list, create, start, stop, move, ...",
        description=GUEST_TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = guest.add_subparsers(required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="all guests of the pair, and where each runs")
    listing.add_argument("--json", action="store_true", help="for scripts")
    listing.set_defaults(action=_later("list_guests"))
    _add_create(verbs)

    show = _verb(verbs, "show", "one guest, with all that is known of it", _later("show"))
    show.add_argument("--json", action="store_true", help="for scripts")
    start = _verb(verbs, "start", "start it, and keep it running from now on", _later("start"))
    start.add_argument("--on", metavar="NODE", help="where; the node that carries its group if not given")
    stop = _verb(verbs, "stop", "shut it down; it stays off until it is started by hand", _later("stop"))
    stop.add_argument("--force", action="store_true", help="cut its power if it has not shut down within 10 s")
    restart = _verb(
        verbs, "restart", "shut it down and start it where it runs, with what was changed since", _later("restart")
    )
    restart.add_argument("--force", action="store_true", help="cut its power if it has not shut down within 10 s")
    _verb(verbs, "console", "its console; leave it with Ctrl-]", _later("console"))
    _verb(verbs, "move", "to the other node by a stop and a start", _later("move"))
    migrate = _verb(
        verbs, "migrate", "to the other node while it runs; says beforehand what would prevent it", _later("migrate")
    )
    migrate.add_argument("--check", action="store_true", help="only say what would prevent it; exit 2 if anything")
    resize = _verb(verbs, "resize", "a larger disk at once; memory and CPUs with the next start", _later("resize"))
    resize.add_argument("--disk", metavar="SIZE", help="like 8G; never smaller than it is")
    resize.add_argument("--memory", metavar="SIZE", help="like 1G")
    resize.add_argument("--vcpus", type=int, metavar="N")
    _verb(verbs, "delete", "remove a guest that is stopped, with its disk; its name is to be typed", _later("delete"))

    drain = commands.add_parser("drain", help="send all guests to the other node, so that this one can be rebooted")
    drain.set_defaults(action=_later("drain"))
    rebalance = commands.add_parser("rebalance", help="send every guest home, on both nodes")
    rebalance.add_argument("--this-side", action="store_true", help="(the peer's) only those that are on this node")
    rebalance.set_defaults(action=_later("rebalance"))
    capacity = commands.add_parser("capacity", help="what runs where now, and after the loss of each node")
    capacity.add_argument("--json", action="store_true", help="for scripts")
    capacity.set_defaults(action=_later("capacity"))

    group = commands.add_parser(
        "group", help="(the cluster stack's) this node is to carry a guest group, or not any more"
    )
    group.add_argument("direction", choices=["start", "stop"])
    group.add_argument("group")
    group.set_defaults(action=_later("group"))
    peer = commands.add_parser("peer", help="(the peer's) answers on standard input what the peer asks")
    peer.set_defaults(action=_later("peer"))
    supervise = commands.add_parser(
        "supervise", help="(the unit's) start the guests that belong here, and look after them"
    )
    supervise.set_defaults(action=_later("supervise"))


def _later(name: str) -> Action:
    """The action of that name, loaded when it is wanted: every `xenpair` command passes here."""

    def action(arguments: argparse.Namespace) -> int:
        actions = importlib.import_module("firstboot.guests.actions")
        code: int = getattr(actions, name)(arguments)
        return code

    return action


def _verb(verbs: Commands[argparse.ArgumentParser], name: str, text: str, action: Action) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("name", metavar="NAME", help="the guest")
    parser.set_defaults(action=action)
    return parser


def _add_create(verbs: Commands[argparse.ArgumentParser]) -> None:
    text = "make a guest with its disk, on both nodes' storage, and start it"
    create = _verb(verbs, "create", text, _later("create"))
    create.add_argument("--home", metavar="NODE", help="node that it runs on while both are up; this one if not given")
    create.add_argument("--memory", metavar="SIZE", required=True, help="like 512M")
    create.add_argument("--disk", metavar="SIZE", required=True, help="like 4G")
    create.add_argument("--vcpus", metavar="N", default="1")
    create.add_argument("--kind", choices=["auto", "pvh", "pv"], default="auto", help="auto: pvh where both nodes can")
    create.add_argument("--tarball", metavar="FILE", help="a root file system to unpack on its disk")
    create.add_argument("--image", metavar="FILE", help="a raw or qcow2 disk image to copy onto its disk")
    create.add_argument("--suite", help="a Debian suite for xen-tools to install on its disk, like trixie")
    create.add_argument("--mirror", metavar="URL", help="where xen-tools gets it; the node's own mirror if not given")
    create.add_argument("--boot", choices=["host", "guest"], default="host", help="guest: its own kernel, by its GRUB")
    create.add_argument("--kernel", metavar="FILE", help="on both nodes; dom0's own if not given")
    create.add_argument("--ramdisk", metavar="FILE", help="on both nodes; dom0's own if not given")
    create.add_argument("--arguments", metavar="TEXT", default="", help="further words for its kernel's command line")
    create.add_argument("--bridge", help="the config's if not given")
    create.add_argument("--mac", help="derived from the names if not given")
    create.add_argument("--address", metavar="IP/LEN", default="dhcp", help="or dhcp")
    create.add_argument("--gateway", metavar="IP")
    create.add_argument("--priority", metavar="N", default="50", help="0 to 99; higher is started first")
    create.add_argument(
        "--restart", choices=["always", "on-crash", "never"], default="always", help="when it has ended"
    )
    create.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="a further setting of xl.cfg(5)"
    )
    create.add_argument("--stopped", action="store_true", help="do not start it")
