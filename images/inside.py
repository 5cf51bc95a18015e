"""The part of the build that runs as (mapped) root inside its own namespaces: `python -m images.inside JOB < json`.

Errors go to standard error as plain text, for the process outside.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from config.errors import XenpairError
from images.difference import make_difference
from images.jobs import CodeJob, DifferenceJob, InstalledJob, InstallerJob, RootfsJob
from images.makeinstalled import make_installed
from images.makeinstaller import make_code, make_installer
from images.makerootfs import make_rootfs

_JOBS = {
    "RootfsJob": lambda fields: make_rootfs(RootfsJob(**fields)),
    "InstalledJob": lambda fields: make_installed(InstalledJob(**fields)),
    "InstallerJob": lambda fields: make_installer(InstallerJob(**fields)),
    "DifferenceJob": lambda fields: make_difference(DifferenceJob(**fields)),
    "CodeJob": lambda fields: make_code(CodeJob(**fields)),
}


def main(argv: Sequence[str]) -> int:
    """Do the job that standard input describes; its result goes to standard output as JSON."""
    # Modes of an image are not those that the caller gives to new files.
    os.umask(0o022)
    fields = json.load(sys.stdin)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        result = _JOBS[argv[1]](fields)
    except (XenpairError, OSError) as e:
        sys.stderr.write(f"{e}\n")
        return 1
    json.dump(asdict(result), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
