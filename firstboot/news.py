"""First boot's news for the server that has installed this node, as long as its page may want them.

Whoever installed it from a medium has no server: then nothing of this is even loaded.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import TYPE_CHECKING

from firstboot import observe
from firstboot.places import Places

if TYPE_CHECKING:
    from firstboot.herald import Herald
    from firstboot.report import Progress

log = logging.getLogger("xenpair")

LAST_WORD = 10.0
"""Seconds that the server may take to hear how it ended; nobody waits for this process then."""
LOG = 20
"""Lines that are remembered for the server."""
FORMED = "formed"
"""What the last report names in place of a step."""


class News:
    """Tells the server what the console is told, where there is a server."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lines: deque[str] = deque(maxlen=LOG)
        self._herald: Herald | None = None
        self._ticket = ""
        try:
            record = json.loads(places.reporting.read_text())
            server, pin, self._ticket = str(record["server"]), str(record["pin"]), str(record["ticket"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as e:
            log.warning("%s cannot be read, so no server is told: %s", places.reporting, e)
            return
        from firstboot.herald import Herald  # noqa: PLC0415  TLS takes its time to load
        from firstboot.pinned import PinnedServer  # noqa: PLC0415

        self._herald = Herald(PinnedServer(server, pin))

    def tell(self, now: Progress, said: str) -> None:
        """Returns at once."""
        if self._herald is None:
            return
        from firstboot.herald import Report, last_lines  # noqa: PLC0415  loaded already

        self._lines += said.splitlines()
        step = FORMED if now.state == "done" else now.step
        machine = next(iter(observe.nics().values()), "")
        log_lines = last_lines(self._lines)
        self._herald.tell(Report(self._ticket, machine, "firstboot", step, now.state, now.error, None, log_lines))

    def close(self) -> None:
        """Let the last word through; a node that is formed has no more news."""
        if self._herald is not None:
            self._herald.close(LAST_WORD)
        if self._places.formed.exists():
            self._places.reporting.unlink(missing_ok=True)
