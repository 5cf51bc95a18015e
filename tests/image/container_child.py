"""A build in a container, by a process of its own: python container_child.py CONFIG OUT CACHE."""

from __future__ import annotations

import sys
from pathlib import Path

from config.errors import XenpairError
from config.loader import load
from images.builders import engine, host
from images.builders.container import Site, build_in_container
from images.progress import Progress


def main(config: str, out: str, cache: str) -> int:
    """The build's exit code; the message on standard error where it does not begin."""
    loaded = load(Path(config))
    site = Site.of(loaded, Path(out), Path(cache))
    words = ["build-image", "--formats", "qcow2"]
    try:
        return build_in_container(engine.connect(), loaded, words, site, suite=host.suite(), progress=Progress())
    except XenpairError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
