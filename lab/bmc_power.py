"""Carries out what a BMC has acknowledged: `python -m lab.bmc_power NODE`, in the lab's directory.

Its output is the BMC's log. It ends when no order is left, or at once where the lab has gone down meanwhile.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from config.errors import XenpairError
from lab.errors import NoLabError
from lab.pair import Lab

log = logging.getLogger("lab.bmc")


def main(argv: list[str]) -> int:
    """Exit code 0, or 1 where an order could not be carried out at all."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%F %T", level=logging.INFO)
    # A QEMU that was just started is asked until it answers.
    logging.getLogger("qemu").setLevel(logging.CRITICAL)
    try:
        Lab(Path()).obey(argv[0])
    except NoLabError:
        return 0
    except XenpairError as e:
        log.error("%s", e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
