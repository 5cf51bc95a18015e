"""What is known of one machine, from the first packet that it sends to the formed pair. Pure."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from enum import StrEnum

from config.machine import Machine
from images.serving.wire import Report

QUIET = 900.0
"""Seconds after which a machine that says nothing is not waited for: a server's longest POST, with room."""
JOINED_STEPS = frozenset({"drbd", "lvm", "heartbeat", "guests"})
"""Steps of first boot that come after the join."""


class Stage(StrEnum):
    """How far a machine is; each stage comes after the ones above it."""

    AWAITED = "awaited"
    SEEN = "seen"
    CHOSEN = "chosen"
    WRITING = "writing"
    INSTALLED = "installed"
    FIRST_BOOT = "first boot"
    JOINED = "joined"
    FORMED = "formed"

    @property
    def is_installed(self) -> bool:
        """Whether the machine's disk boots."""
        return self in _INSTALLED


_INSTALLED = frozenset({Stage.INSTALLED, Stage.FIRST_BOOT, Stage.JOINED, Stage.FORMED})
_WRITING_STEPS = frozenset({"write", "hand-over", "boot"})


@dataclass(frozen=True)
class Record:
    """A snapshot; each thing that happens makes a new one. Times are seconds since 1970."""

    stage: Stage = Stage.AWAITED
    failed: bool = False
    step: str = ""
    state: str = ""
    text: str = ""
    percent: float | None = None
    log: tuple[str, ...] = ()
    machine: Machine | None = None
    """What it said of itself."""
    heard: float = 0.0
    """When it last said something; 0 for never."""
    given: float = 0.0
    """When it was given its secrets; 0 for not yet."""
    asker: str = field(default="", repr=False)
    """Who of it was given them: what that installer made up, and nobody else knows."""

    def seen(self, now: float) -> Record:
        """It asks for something to boot."""
        return Record(Stage.SEEN, machine=self.machine, heard=now, given=self.given, asker=self.asker)

    def greeted(self, machine: Machine, stage: Stage, text: str, now: float) -> Record:
        """Its installer has said hello, and was told what it is."""
        # That it is installed is known from its own reports alone where this server was started after that.
        given = self.given or (self.heard if self.stage.is_installed else 0.0)
        return Record(stage, step="identity", state="running", text=text, machine=machine, heard=now, given=given)

    def told(self, report: Report, now: float) -> Record:
        """It says what it is at."""
        told = replace(self, stage=_stage(report, self.stage), failed=report.state == "failed", heard=now)
        return replace(
            told,
            step=report.step,
            state=report.state,
            text=report.text,
            percent=report.percent,
            # What it failed on stays to be read; the next step has a log of its own.
            log=tuple(report.log) or (self.log if report.state == "failed" else ()),
        )

    def handed(self, asker: str, now: float) -> Record:
        """It was given its secrets."""
        return replace(self, given=now, heard=now, asker=asker)

    def may_ask_again(self, asker: str) -> bool:
        """Whether this is the installer that was given the secrets, and its report that it has them is not here yet."""
        known = bool(asker) and hmac.compare_digest(self.asker.encode(), asker.encode())
        return known and not self.stage.is_installed

    def allowed_again(self) -> Record:
        """It may be installed, and be given its secrets, once more."""
        if self.stage.is_installed:
            return Record(machine=self.machine, heard=self.heard)
        return replace(self, given=0.0, asker="")

    @property
    def is_settled(self) -> bool:
        """Whether it has its secrets, so that to install it again is for the administrator to say."""
        return bool(self.given) or self.stage.is_installed

    def is_under_way(self, now: float) -> bool:
        """Whether it is between its hello and the formed pair, and can still be expected to get on."""
        resting = self.failed or self.stage in (Stage.AWAITED, Stage.SEEN, Stage.FORMED)
        return not resting and now - self.heard < QUIET


def _stage(report: Report, before: Stage) -> Stage:
    if report.phase == "firstboot":
        if report.state == "done" and report.step in ("", "formed"):
            return Stage.FORMED
        joined = report.step in JOINED_STEPS or (report.step == "join" and report.state == "done")
        return Stage.JOINED if joined else Stage.FIRST_BOOT
    if report.step == "boot" and (report.state == "done" or before is Stage.INSTALLED):
        return Stage.INSTALLED
    return Stage.WRITING if report.step in _WRITING_STEPS else Stage.CHOSEN
