"""The words of `xenpair upgrade`. What they do is in firstboot.upgrading.action."""

from __future__ import annotations

import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command, which `invoke upgrade` on the build host calls on one node after the other."""
    parser = commands.add_parser("upgrade", help="bring another package or another config to this node, in service")
    parser.add_argument("--package", metavar="FILE", help="xenpair-firstboot_*.deb; it stays as it is if not given")
    parser.add_argument("--config", metavar="FILE", help="cluster.yaml; it stays as it is if not given")
    parser.add_argument("--back", action="store_true", help="to what was here before the last upgrade")
    parser.add_argument("--plan", action="store_true", help="only say what would change")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(action=_upgrade)


def _upgrade(arguments: argparse.Namespace) -> int:
    from firstboot.upgrading import action  # noqa: PLC0415 -- pydantic, which costs every other command seconds

    return action.upgrade(arguments)
