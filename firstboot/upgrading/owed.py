"""What an upgrade has begun on this node and not finished, so that a second call goes on, whatever came between."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from config.door import write_file
from config.upgrade import NodePlan
from config.values import Model
from firstboot.errors import UpgradeError
from firstboot.places import Places


class Owed(Model):
    """target: what the upgrade leads to; files: those that get another content, so whoever reads them is to be told;
    restart, reboot: why one is needed, or empty; boot: during which that is so.

    away: the node's guests were sent to the peer, and are to come home, after whatever reboot.
    """

    target: str
    boot: str
    files: tuple[str, ...] = ()
    restart: str = ""
    reboot: str = ""
    away: bool = False

    def write(self, places: Places) -> None:
        """Keep it until done()."""
        write_file(_record(places), self.model_dump_json(indent=1) + "\n")


def read(places: Places) -> Owed | None:
    """What is owed, or None. Raises UpgradeError for a record that is none."""
    record = _record(places)
    try:
        return Owed.model_validate_json(record.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as e:
        raise UpgradeError(f"{record} is not what an upgrade has written there", hint="remove it") from e


def done(places: Places) -> None:
    """Nothing is owed any more."""
    _record(places).unlink(missing_ok=True)


def boot_id(places: Places) -> str:
    """Another one after each boot (random(4))."""
    return places.at("proc/sys/kernel/random/boot_id").read_text().strip()


def with_owed(plan: NodePlan, owed: Owed | None, boot: str) -> NodePlan:
    """The plan with what an earlier upgrade has left to do. boot: the present one."""
    if owed is None:
        return plan
    same = owed.boot == boot
    update = {
        "unfinished": True,
        "restart": plan.restart or (owed.restart if same else ""),
        "reboot": plan.reboot or (owed.reboot if same else ""),
    }
    return plan.model_copy(update=update)


def _record(places: Places) -> Path:
    return places.upgrade / "owed.json"
