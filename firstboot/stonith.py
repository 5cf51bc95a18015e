"""The same fencing as a STONITH plugin of cluster-glue: what heartbeat asks before it takes over from a dead node.

The protocol is that of external plugins (cluster-glue's README.external): a request as first argument, a host as
second, parameters in the environment, an exit code as the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from firstboot import fencing
from firstboot.bmc import bmc_of
from firstboot.brief import FencingBrief
from firstboot.errors import BmcError
from firstboot.places import Places

log = logging.getLogger("xenpair")

_DESCRIPTIONS = {
    "getconfignames": "peer\n",
    "getinfo-devid": "xenpair\n",
    "getinfo-devname": "xenpair: the peer's BMC, or the administrator's word\n",
    "getinfo-devdescr": "Proves that the peer is off, in one flight with DRBD's fence-peer handler.\n",
    "getinfo-devurl": "https://www.gnu.org/software/freeipmi/\n",
    "getinfo-xml": (
        '<parameters><parameter name="peer" unique="1"><content type="string" />'
        '<shortdesc lang="en">Host name of the peer</shortdesc></parameter></parameters>\n'
    ),
}


def answer(request: str, host: str, brief: FencingBrief, places: Places, say: Callable[[str], object]) -> int:
    """Answer one request with an exit code: 0 done, 1 not done or not known."""
    if request in _DESCRIPTIONS:
        say(_DESCRIPTIONS[request])
        return 0
    match request:
        case "gethosts":
            say(brief.peer + "\n")
            return 0
        case "status":
            return _status(brief)
        case "reset" | "off" if host == brief.peer:
            return 0 if fencing.fence("heartbeat", brief, places, limit=fencing.HANDLER_LIMIT) else 1
        case _:
            log.error("stonith: %s %s is not for this plugin: it fences %s", request, host, brief.peer)
            return 1


def _status(brief: FencingBrief) -> int:
    """Without a BMC the plugin still answers: it holds until the administrator's word."""
    if brief.bmc is None:
        return 0
    try:
        bmc_of(brief.bmc).power()
    except BmcError as e:
        log.error("stonith: the BMC of %s: %s", brief.peer, e.message)
        return 1
    return 0
