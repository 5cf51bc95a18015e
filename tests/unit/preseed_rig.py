"""Debian's installer for our scripts: its files below a directory, and its programs as far as the scripts call them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONFMODULE = """\
db_subst() { echo "$3" >>"$RIG/shown"; }
db_fset() { :; }
db_input() { :; }
db_go() { sh "$RIG/on-enter" || exit 7; }
"""
"""What was shown is written down; the first Enter ends a script, unless on-enter says otherwise."""

PROGRAMS = {
    "udevadm": 'for last; do case $last in --name=*) name=${last##*/} ;; esac; done; cat "$RIG/udev/$name" 2>/dev/null',
    "list-devices": 'ls "$RIG"/dev/* 2>/dev/null',
    "debconf-loadtemplate": 'cp "$2" "$RIG/template"',
    "debconf-set-selections": 'cp "$1" "$RIG/answers"',
    "logger": ":",
    "preseed_fetch": 'echo "$1" >>"$RIG/fetched"; cp "$RIG/served/$1" "$2"',
    "in-target": 'echo "$*" >>"$RIG/in-target"; sh "$RIG/on-in-target" "$@"',
}

DISK = 4096 << 20
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Installer:
    """It runs below this directory."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Installer:
        """With no disk and no network card yet."""
        for name in ("bin", "dev", "udev", "tmp", "usr/share/debconf", "sys/class/dmi/id", "sys/class/net", "served"):
            (root / name).mkdir(parents=True)
        (root / "usr/share/debconf/confmodule").write_text(CONFMODULE)
        (root / "on-enter").write_text("false\n")
        (root / "on-in-target").write_text(":\n")
        for name, body in PROGRAMS.items():
            program = root / "bin" / name
            program.write_text(f"#!/bin/sh\n{body}\n")
            program.chmod(0o755)
        return cls(root)

    def card(self, mac: str) -> None:
        """Plug in a network card."""
        card = self.root / "sys/class/net" / f"eth{mac[-2:]}"
        card.mkdir()
        (card / "address").write_text(f"{mac}\n")

    def disk(self, name: str, *, size: int = DISK, removable: bool = False, udev: Mapping[str, str] = NOTHING) -> Path:
        """Plug in a blank disk; udev: what it has found out about it."""
        path, facts = self.root / "dev" / name, self.root / "sys/class/block" / name
        with path.open("wb") as f:
            f.truncate(size)
        facts.mkdir(parents=True)
        (facts / "size").write_text(f"{size // 512}\n")
        (facts / "removable").write_text(f"{int(removable)}\n")
        (self.root / "udev" / name).write_text("".join(f"{key}={value}\n" for key, value in udev.items()))
        return path

    def run(self, script: str, name: str) -> int:
        """The exit code of a script, 7 where it waits for Enter; run by busybox, as by the installer, if it is here."""
        path = self.root / "tmp" / name
        path.write_text(script)
        shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
        env = {"PATH": f"{self.root / 'bin'}:/usr/bin:/bin", "RIG": str(self.root), "LANG": "C.UTF-8"}
        return subprocess.run([*shell, str(path)], env=env, timeout=60, check=False).returncode

    def read(self, name: str) -> str:
        """What is in one of its files; empty where there is none."""
        path = self.root / name
        return path.read_text() if path.exists() else ""


def texts(raw: object) -> object:
    """As the loader hands a file over: leaves are texts, and what is not there is not there."""
    if isinstance(raw, dict):
        return {key: texts(value) for key, value in raw.items() if value is not None}
    if isinstance(raw, list):
        return [texts(value) for value in raw]
    return str(raw).lower() if isinstance(raw, bool) else raw
