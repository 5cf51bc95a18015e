"""`python3 -m firstboot.installer`: what the machine runs in place of a system, from its boot to its reboot.

It never ends by itself, for there is nothing else. Where it fails it says so and stays, and Enter makes it try again.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import threading
import traceback
from pathlib import Path

from config.errors import XenpairError
from firstboot.installer.arguments import Arguments, FromMedium, FromServer, parse_arguments
from firstboot.installer.devices import await_medium
from firstboot.installer.network import bring_up
from firstboot.installer.teller import Consoles, Teller

RB_AUTOBOOT = 0x01234567
"""reboot(2), LINUX_REBOOT_CMD_RESTART."""
LAST_WORD = 2.0
"""Seconds that the server may take to hear that all is installed."""


def main() -> None:
    """Try until it is installed, then reboot."""
    teller = Teller(Consoles.of_kernel())
    teller.timing("start", _uptime())
    while not _try(teller):
        teller.stay()
    if teller.herald is not None:
        teller.herald.close(LAST_WORD)
    _reboot()


def _try(teller: Teller) -> bool:
    try:
        _attempt(parse_arguments(Path("/proc/cmdline").read_text()), teller)
    except XenpairError as e:
        teller.failed(str(e))
    except OSError as e:
        teller.failed(f"the system refuses: {e}\n  is the disk or the medium broken, or gone? see `dmesg`")
    except KeyboardInterrupt:
        teller.failed("interrupted")
    except Exception as e:  # noqa: BLE001  nobody is there to hand it on to
        teller.note(traceback.format_exc())
        teller.failed(f"this is a bug: {type(e).__name__}: {e}")
    else:
        return True
    return False


def _attempt(arguments: Arguments, teller: Teller) -> None:
    with contextlib.ExitStack() as stack:
        with teller.step("source"):
            # It takes its time, in which a stick or a link may come up.
            loading = threading.Thread(target=importlib.import_module, args=["firstboot.installer.installation"])
            loading.start()
            medium = _reach(arguments.origin, teller)
            loading.join()
            from firstboot.installer.installation import install, source_of  # noqa: PLC0415  see above

            source = source_of(arguments.origin, medium, stack, teller)
        measuring = install(source, teller, bench=arguments.bench)
    with teller.step("boot"):
        os.sync()
    teller.timing("kernel-to-reboot", _uptime() - measuring)
    teller.installed()


def _reach(origin: FromMedium | FromServer, teller: Teller) -> Path | None:
    if isinstance(origin, FromMedium):
        return await_medium(origin.label, teller.waiting)
    bring_up(origin, teller.waiting)
    return None


def _uptime() -> float:
    """Seconds since the kernel's start."""
    return float(Path("/proc/uptime").read_text().split()[0])


def _reboot() -> None:
    ctypes.CDLL(None).reboot(RB_AUTOBOOT)
    # It comes back only where it was refused.
    Path("/proc/sysrq-trigger").write_text("b")


if __name__ == "__main__":
    main()
