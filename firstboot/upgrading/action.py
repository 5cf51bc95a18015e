"""What `xenpair upgrade` does: hands over to the code of the package that is to come, which looks, acts and reports."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from config.upgrade import OFFERED_CONFIG, OFFERED_PACKAGE
from firstboot.errors import UpgradeError
from firstboot.logs import log_to_journal
from firstboot.places import Places
from firstboot.upgrading import package
from firstboot.upgrading.prospect import prospect
from firstboot.upgrading.upgrade import upgrade as carry_out


def upgrade(arguments: argparse.Namespace) -> int:
    """Show what would change (--plan), or do it."""
    places = Places()
    offered, config = _meant(arguments, places)
    if offered and not package.is_running(places):
        package.hand_over(offered, places, _words(arguments, offered, config))
    found = prospect(places, offered, config)
    if arguments.plan:
        _tell(found.plan.model_dump_json() if arguments.json else "\n".join(found.plan.lines()))
        return 0
    log_to_journal()
    outcome = carry_out(found, _hear if arguments.json else _tell, back=arguments.back)
    if arguments.json:
        _tell(outcome.model_dump_json())
    elif outcome.reboot:
        _tell(f"reboot this node ({outcome.reboot}), then type the same again")
    else:
        _tell(f"{outcome.node} is as it is to be; `xenpair status` shows whether the pair is healthy")
    return 0


def _meant(arguments: argparse.Namespace, places: Places) -> tuple[Path | None, Path | None]:
    """The package and the config. Raises UpgradeError."""
    if arguments.back:
        if arguments.package or arguments.config:
            raise UpgradeError("--back goes to what was here before: no --package and no --config with it")
        if not (places.back / OFFERED_CONFIG).exists():
            raise UpgradeError("there was no upgrade of this node, so there is nothing to go back to")
        return places.back / OFFERED_PACKAGE, places.back / OFFERED_CONFIG
    if not (arguments.package or arguments.config):
        raise UpgradeError("nothing to change", hint="give --package, --config or both")
    package_file, config = (Path(name).resolve() if name else None for name in (arguments.package, arguments.config))
    return package_file, config


def _words(arguments: argparse.Namespace, offered: Path, config: Path | None) -> list[str]:
    """The same once more."""
    words = ["--back"] if arguments.back else ["--package", str(offered)]
    words += ["--config", str(config)] if config and not arguments.back else []
    return words + [f"--{flag}" for flag in ("plan", "json") if getattr(arguments, flag)]


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _hear(text: str) -> None:
    sys.stderr.write(text + "\n")
