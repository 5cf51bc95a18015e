"""Management controllers: the only thing that can say for certain that a machine is off.

The seam for kinds other than IPMI is the Bmc protocol: three calls, and BmcError for whatever is not a clear answer.
"""

from __future__ import annotations

import re
from typing import Protocol

from config.door import run
from config.errors import CommandError
from firstboot.brief import BmcBrief
from firstboot.errors import BmcError
from firstboot.plan.fencing import Power

TIMEOUT = 20.0
"""Seconds for one ipmitool, which itself gives up after RETRIES tries of 1 s, 2 s and 3 s (lanplus backs off)."""

RETRIES = 3


class Bmc(Protocol):
    """A machine's management controller. Each call raises BmcError unless the controller answered clearly."""

    def power(self) -> Power:
        """Whether the machine has power."""
        ...

    def power_off(self) -> None:
        """Order its power off, at once. That the order was taken proves nothing: ask power()."""
        ...

    def power_on(self) -> None:
        """Order its power on."""
        ...


class Ipmi:
    """IPMI 2.0 over LAN, by ipmitool. The password goes through the environment, which root alone can read."""

    def __init__(self, brief: BmcBrief) -> None:
        self._brief = brief

    def power(self) -> Power:
        """From `chassis power status`."""
        return parse_power(self._chassis("status"))

    def power_off(self) -> None:
        """`chassis power off`: no orderly shutdown is tried."""
        self._chassis("off")

    def power_on(self) -> None:
        """`chassis power on`."""
        self._chassis("on")

    def _chassis(self, order: str) -> str:
        brief = self._brief
        argv = ["ipmitool", "-I", "lanplus", "-H", brief.address, "-p", str(brief.port), "-U", brief.user, "-E"]
        argv += ["-N", "1", "-R", str(RETRIES), "chassis", "power", order]
        try:
            output = run(argv, check=False, timeout=TIMEOUT, env={"IPMI_PASSWORD": brief.password})
        except CommandError as e:
            raise BmcError(f"ipmitool: {e.what}") from e
        if output.returncode != 0:
            raise BmcError(" ".join((output.stderr or output.stdout).split()) or f"exit code {output.returncode}")
        return output.stdout


def parse_power(text: str) -> Power:
    """What `ipmitool chassis power status` printed. Raises BmcError for anything but a clear on or off."""
    match = re.fullmatch(r"Chassis Power is (on|off)", text.strip())
    if match is None:
        raise BmcError(f"it answers {text.strip()[:80]!r}")
    return "on" if match[1] == "on" else "off"


class NoBmc:
    """What stands in for a controller that the config does not name: it never says anything clear."""

    def power(self) -> Power:
        """Raises BmcError, as all of them do."""
        raise BmcError("the config names none")

    def power_off(self) -> None:
        """Raises BmcError."""
        self.power()

    def power_on(self) -> None:
        """Raises BmcError."""
        self.power()


def bmc_of(brief: BmcBrief | None) -> Bmc:
    """The controller that the config describes, or one that never answers."""
    return Ipmi(brief) if brief else NoBmc()
