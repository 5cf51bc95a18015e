"""What apt says of an archive, asked without a root file system: every answer is verified against Debian's keyring."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.door import run
from images import namespace, sources
from images.jobs import explain

_TIMEOUT = 600.0
_ESSENTIAL = "?and(?architecture(amd64),?essential)"
"""apt-patterns(7): what every Debian system has."""


@dataclass(frozen=True)
class Archive:
    """An archive as apt sees it: its sources.list lines. scratch: a directory for the answers."""

    mirror: sources.Mirror
    suite: str
    lines: Sequence[str]
    scratch: Path

    def to_install(self, packages: Sequence[str], preferences: str) -> str:
        """`apt-get --print-uris` for a new system with these packages; which versions, apt_preferences(5) say."""
        argv = ["apt-get", "--quiet", "--yes", "--print-uris", "-o", "Acquire::ForceHash=sha256", "install"]
        return self._ask(shlex.join([*argv, _ESSENTIAL, "apt", *packages]), preferences)

    def records(self, versions: Sequence[str]) -> str:
        """`apt-cache show` for each NAME=VERSION that there is."""
        return self._ask(f"{shlex.join(['apt-cache', 'show', *versions])} || true", "")

    def _ask(self, question: str, preferences: str) -> str:
        answer, pins = self.scratch / "answer", self.scratch / "preferences"
        pins.write_text(preferences)
        hook = f'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; {{ {question}; }} > {shlex.quote(str(answer))}'
        options = [f"--keyring={sources.KEYRING}", f'--aptopt=Dir::Etc::Preferences "{pins}";']
        argv = [
            *("mmdebstrap", "--quiet", "--mode=root", "--format=null", "--variant=custom", "--architectures=amd64"),
            *(*options, *(f"--aptopt={option}" for option in sources.apt_options(self.mirror))),
            f"--customize-hook={hook}",
            *(self.suite, "/dev/null", *self.lines),
        ]
        env = {"TMPDIR": str(self.scratch), **sources.proxy_environment()}
        done = run(namespace.isolated(argv), check=False, timeout=_TIMEOUT, env=env)
        if done.returncode != 0:
            raise explain(done.stderr)
        return answer.read_text()
