"""A build in a process of its own, for tests that starve or kill it: python build_child.py CONFIG OUT CACHE FORMATS."""

from __future__ import annotations

import sys
from pathlib import Path

from config.errors import XenpairError
from config.loader import load
from images.build import build_image
from images.disklayer import parse_formats
from images.progress import Progress


def main(config: str, out: str, cache: str, formats: str) -> int:
    """Exit code 1 and the message on standard error where the build fails."""
    try:
        build_image(load(Path(config)), Path(out), parse_formats(formats)[0], cache=Path(cache), progress=Progress())
    except XenpairError as e:
        sys.stderr.write(f"{type(e).__name__}: {e}\n")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
