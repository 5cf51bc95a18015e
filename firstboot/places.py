"""Where things lie on a node. Tests point a Places at a directory of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Paths below a root directory, which is / on a node."""

    root: Path = Path("/")

    def at(self, path: str) -> Path:
        """A path like etc/hosts below the root."""
        return self.root / path.lstrip("/")

    @property
    def config(self) -> Path:
        """The cluster's config, copied from the seed medium."""
        return self.at("etc/xenpair/cluster.yaml")

    @property
    def secrets(self) -> Path:
        """The cluster's secrets, 0600."""
        return self.at("etc/xenpair/secrets.yaml")

    @property
    def seed_keys(self) -> Path:
        """Further keys that may log in as root, from the seed medium."""
        return self.at("etc/xenpair/authorized_keys")

    @property
    def reporting(self) -> Path:
        """Which server is told how first boot gets on, 0600; after an installation by network, until it is formed."""
        return self.at("etc/xenpair/report.json")

    @property
    def files(self) -> Path:
        """The guests' tarballs, images and kernels that the config names by plain file name, from the seed medium."""
        return self.at("var/lib/xenpair/files")

    @property
    def journal(self) -> Path:
        """What first boot has begun and finished."""
        return self.at("var/lib/xenpair/journal.jsonl")

    @property
    def join(self) -> Path:
        """What the two nodes told each other in the join."""
        return self.at("var/lib/xenpair/join.json")

    @property
    def awaited(self) -> Path:
        """Name of the node that `xenpair replace` has made room for, until the new machine has joined."""
        return self.at("var/lib/xenpair/awaited")

    @property
    def brief(self) -> Path:
        """What later boots need to know, without reading the config."""
        return self.at("var/lib/xenpair/brief.json")

    @property
    def mirror(self) -> Path:
        """Of a node whose backing device is a mirror: its halves, and which of them is out."""
        return self.at("var/lib/xenpair/mirror.json")

    @property
    def system_mirror(self) -> Path:
        """The same of a node whose system is on a mirror."""
        return self.at("var/lib/xenpair/system-mirror.json")

    @property
    def upgrade(self) -> Path:
        """Of `xenpair upgrade`: what the build host has sent, what was there before, and how far it is; 0700."""
        return self.at("var/lib/xenpair/upgrade")

    @property
    def back(self) -> Path:
        """The package and the config that were here before the last upgrade."""
        return self.upgrade / "back"

    @property
    def unpacked(self) -> Path:
        """The package that an upgrade is to install, unpacked: its own code carries the upgrade out."""
        return self.at("run/xenpair/upgrade")

    @property
    def formed(self) -> Path:
        """Exists once first boot is done."""
        return self.at("var/lib/xenpair/formed")

    @property
    def progress(self) -> Path:
        """Where first boot stands right now; gone at the next boot."""
        return self.at("run/xenpair/progress.json")

    @property
    def storage_progress(self) -> Path:
        """The same for the storage unit."""
        return self.at("run/xenpair/storage.json")

    @property
    def fencing(self) -> Path:
        """How the peer's power is cut: holds the BMC's password, 0600."""
        return self.at("etc/xenpair/fencing.json")

    @property
    def fencing_progress(self) -> Path:
        """Where the present incident's fencing stands; gone at the next boot."""
        return self.at("run/xenpair/fencing.json")

    @property
    def fencing_lock(self) -> Path:
        """Held by the one flight that deals with an incident."""
        return self.at("run/xenpair/fencing.lock")

    @property
    def fencing_proof(self) -> Path:
        """Written by the flight that has proven the peer off."""
        return self.at("run/xenpair/proven-off.json")

    @property
    def fencing_strike(self) -> Path:
        """The last order to switch the peer off, until it was found off; gone at the next boot."""
        return self.at("run/xenpair/struck.json")

    @property
    def split_brain(self) -> Path:
        """DRBD has found that both sides went on alone; gone at the next boot, which finds it anew."""
        return self.at("run/xenpair/split-brain.json")

    @property
    def confirmation(self) -> Path:
        """The administrator's word that the peer is off, until a flight has used it; gone at the next boot."""
        return self.at("run/xenpair/confirmed-off.json")

    @property
    def groups(self) -> Path:
        """One empty file for each guest group that this node carries; gone at the next boot."""
        return self.at("run/xenpair/groups")

    @property
    def locks(self) -> Path:
        """One file for each lock that was ever taken; who holds it has it locked (flock(2)); gone at the next boot."""
        return self.at("run/xenpair/locks")

    @property
    def bell(self) -> Path:
        """Wakes the supervisor of the guests."""
        return self.at("run/xenpair/bell")

    @property
    def held(self) -> Path:
        """Guests that this node should run and cannot, and why; gone at the next boot."""
        return self.at("run/xenpair/held.json")
