"""A node of the running pair, by SSH: asked by its own `xenpair` command."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from config.door import Output, run
from config.errors import CommandError
from config.model import Cluster
from config.upgrade import OFFERED, OFFERED_CONFIG, OFFERED_PACKAGE, NodePlan, Outcome
from config.values import Model
from images.errors import UpgradeError
from images.upgrading.offer import Offer

OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=15")
QUESTION_LIMIT = 300.0
"""Seconds for a question or a copy: one on hardware, a minute on a busy lab."""
UPGRADE_LIMIT = 3600.0
"""Seconds for a node's part up to a reboot, most of it guests that move."""
POLL = 5.0
"""Seconds between two looks for a node that reboots."""

Answer = TypeVar("Answer", bound=Model)


@dataclass(frozen=True)
class Health:
    """healthy, degraded or failed, or why nobody knows; text: what the node's status says for people."""

    state: str
    text: str

    @property
    def healthy(self) -> bool:
        """Whether the node says so."""
        return self.state == "healthy"


@dataclass(frozen=True)
class Remote:
    """name: the node's; target: as ssh takes it; ssh_config: through which it is reached, or the user's own."""

    name: str
    target: str
    ssh_config: Path | None = None

    def health(self) -> Health:
        """What `xenpair status` says; a node that does not answer is not healthy."""
        try:
            done = self._ssh("xenpair", "status", "--json", check=False)
            status = json.loads(done.stdout)
            return Health(status["health"], _summary(status))
        except CommandError as e:
            return Health("unknown", e.what)
        except (ValueError, KeyError, TypeError):
            said = " ".join(done.stderr.split()[-40:]) or f"`xenpair status` ended with exit code {done.returncode}"
            return Health("unknown", said)

    def send(self, offer: Offer) -> None:
        """Copy package and config to where `plan` and `upgrade` find them; nothing there reads them by itself."""
        self._ssh("install", "-d", "-m", "0700", OFFERED)
        for file, name in ((offer.package, OFFERED_PACKAGE), (offer.loaded.source, OFFERED_CONFIG)):
            argv = ["scp", "-q", *self._options(), file.resolve(), f"{self.target}:{OFFERED}/{name}"]
            run(argv, timeout=QUESTION_LIMIT)

    def plan(self) -> NodePlan:
        """What an upgrade to what was sent would change there."""
        return self._upgrade(NodePlan, "--plan", limit=QUESTION_LIMIT)

    def upgrade(self) -> Outcome:
        """Have the node do its part, up to a reboot."""
        return self._upgrade(Outcome, limit=UPGRADE_LIMIT)

    def reboot(self, limit: float) -> None:
        """Return once it answers again, after another boot. Raises UpgradeError after limit seconds."""
        before = self._boot_id()
        self._ssh("systemctl", "reboot", check=False)
        # A connection that is shared would outlive its node, and hang.
        run(["ssh", *self._options(), "-O", "exit", self.target], check=False)
        deadline = time.monotonic() + limit
        while (answer := self._another_boot(before)) is not None:
            if time.monotonic() > deadline:
                raise UpgradeError(f"{self.name} has not come back {limit:.0f} s after its reboot: {answer}")
            time.sleep(POLL)

    def _another_boot(self, before: str) -> str | None:
        """None once it has booted anew, else what it says."""
        try:
            return "it still runs as before" if self._boot_id() == before else None
        except CommandError as e:
            return e.what

    def _boot_id(self) -> str:
        return self._ssh("cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    def _upgrade(self, kind: type[Answer], *words: str, limit: float) -> Answer:
        files = ("--package", f"{OFFERED}/{OFFERED_PACKAGE}", "--config", f"{OFFERED}/{OFFERED_CONFIG}")
        done = self._ssh("xenpair", "upgrade", *files, *words, "--json", check=False, limit=limit)
        if done.returncode != 0:
            raise UpgradeError(f"{self.name}: {done.stderr.strip() or f'exit code {done.returncode}'}")
        try:
            return kind.model_validate_json(done.stdout)
        except ValidationError as e:
            raise UpgradeError(
                f"{self.name} does not answer as this xenpair does: {done.stdout.strip()[:200]!r}",
                hint="`xenpair upgrade` there and `invoke upgrade` here are of too different versions",
            ) from e

    def _ssh(self, *words: str, check: bool = True, limit: float = QUESTION_LIMIT) -> Output:
        return run(["ssh", *self._options(), self.target, shlex.join(words)], check=check, timeout=limit)

    def _options(self) -> list[str | Path]:
        return [*(("-F", self.ssh_config) if self.ssh_config else ()), *OPTIONS]


def nodes(cluster: Cluster, ssh_config: Path | None) -> list[Remote]:
    """Both nodes in the config's order: root at their guest addresses, or by name as an ssh_config knows them."""
    return [
        Remote(node.name, node.name if ssh_config else f"root@{node.addresses.guest.ip}", ssh_config)
        for node in cluster.nodes
    ]


def _summary(status: dict[str, Any]) -> str:
    drbd, fencing, first = status["drbd"], status["fencing"], status["firstboot"]
    parts = [
        f"first boot {first['state']}",
        f"DRBD {drbd['connection']} {drbd['role']}/{drbd['peer_role']} {drbd['disk']}/{drbd['peer_disk']}",
        f"heartbeat {status['heartbeat']['state']}",
        f"fencing {fencing['state']}" + (f" ({fencing['reason']})" if fencing["reason"] else ""),
        *(f"{guest['name']} held: {guest['held']}" for guest in status["guests"] if guest["held"]),
    ]
    return ", ".join(parts)
