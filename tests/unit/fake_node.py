"""A node on which first boot runs from its first step to its last, without a machine, and loses power anywhere.

Every program that first boot starts ends here, and every write that has to survive. Each is a place where the power can
be cut: what was written before stays, what would have come after does not happen, and what is not on a disk is gone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import pytest
from jinja2 import Environment

from config.loader import Loaded, load
from config.machine import Machine
from config.model import Cluster
from config.secrets import Secrets
from firstboot import observe, runner
from firstboot.join.facts import Facts
from firstboot.node import ThisNode
from firstboot.places import Places
from firstboot.plan.mirror import CONF
from firstboot.probe.disks import Edges, edge_ranges, parse_edges
from firstboot.probe.drbd import UNCONFIGURED, DrbdState
from firstboot.probe.mirror import Array
from tests.unit.fake_disk import SIZE, FakeDisk
from tests.unit.fake_mirror import DEVICE, FakeMirror

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZha2VrZXlmYWtla2V5ZmFrZWtleWZha2VrZXlmYWtl"
PEER_PARTITION = "/dev/disk/by-partuuid/22222222-2222-4222-8222-222222222222"
WHOLE = DrbdState("Connected", "Primary", "Primary", "UpToDate", "UpToDate")
MIRRORED = '{raid1: true, serial: "data-*", min_size: 4M}'
EXAMPLE = (Path(__file__).parents[2] / "config" / "cluster.yaml").read_text().replace("min_size: 4G", "min_size: 4M")

TEMPLATES = cast("cached_property[Environment]", vars(ThisNode)["_templates"]).func(None)
CONFIGS: dict[bytes, Loaded] = {}


def loaded(path: Path) -> Loaded:
    """As config.loader.load, which takes a third of the time of a first boot here."""
    content = path.read_bytes()
    return CONFIGS.setdefault(content, CONFIGS.get(content) or load(path))


@lru_cache(maxsize=8)
def edges_of(content: bytes) -> Edges:
    """As parse_edges; a disk is the same at most looks."""
    return parse_edges("vdb", {0: content})


REPLICATED = 500_000
"""Bytes that the pair has agreed on: the other side's disk is the smaller one."""

Answer = tuple[int, str, str]
"""Exit code, output, errors."""


class PowerCut(BaseException):
    """Stands for SIGKILL: nothing in the program may catch it."""


class FakeNode:
    """xen1 of the example pair, with a blank second disk, and a peer that is always there.

    mirrored: with a third one, to mirror the second.
    """

    def __init__(self, root: Path, cluster: Cluster, config: str, *, mirrored: bool = False) -> None:
        self.places = Places(root)
        self.cluster = cluster
        self.disk: FakeDisk = FakeDisk(self.tick)
        self.disks = [self.disk]
        self.mirror: FakeMirror | None = None
        if mirrored:
            self.disks.append(FakeDisk(self.tick, "/dev/vdc", "data-xen1b"))
            self.disk = self.mirror = FakeMirror(self.disks)
        self.ticks = 0
        self.cut_at: int | None = None
        self.cached: list[tuple[FakeDisk, int, bytes]] = []
        """What was there before each write that was not flushed."""
        self.keys_made = 0
        self.programs: list[str] = []
        self.storage_first = False
        """Whether the storage unit has attached DRBD before first boot looks, when the node is started again."""
        bmc = {node.bmc.password.removeprefix("secret:"): "secret" for node in cluster.nodes if node.bmc}
        secrets = Secrets(authkeys="ab" * 32, drbd="cd" * 24, join="ef" * 32, bmc=bmc)
        self.places.config.parent.mkdir(parents=True)
        self.places.config.write_text(config)
        self.places.secrets.write_text(secrets.to_yaml())
        self.places.secrets.chmod(0o600)
        self.power_on()

    def tick(self) -> None:
        """A place where the power can be cut."""
        self.ticks += 1
        if self.ticks == self.cut_at:
            raise PowerCut

    def power_on(self) -> None:
        """What is not on a disk is as after a boot."""
        self.cut_at = None
        while self.cached:
            disk, at, before = self.cached.pop()
            disk.bytes[at : at + len(before)] = before
        shutil.rmtree(self.places.at("run"), ignore_errors=True)
        hostname = self.places.at("etc/hostname")
        self.hostname = hostname.read_text().strip() if hostname.exists() else "debian"
        self.filtered = self.linked = self.heartbeat = self.supervised = False
        self.drbd = UNCONFIGURED
        for disk in (self.disk, *self.disks):
            disk.attached = False
        if self.mirror:
            conf = self.places.at(CONF)
            self.mirror.put_together(conf.read_text() if conf.exists() else "")
        if self.storage_first and self.places.at("etc/drbd.d/xenpair.res").exists():
            self._storage_up()

    def first_boot(self) -> None:
        """As the unit does it."""
        runner.first_boot(self.places)

    def program(self, argv: Sequence[str], stdin: str | None) -> Answer:
        """Run a program. Unknown ones are a fault of the test, or of the code."""
        self.programs.append(" ".join(argv))
        for words, action in self._programs(argv, stdin or "").items():
            if list(argv[: len(words.split())]) == words.split():
                answer = action()
                return answer if isinstance(answer, tuple) else (0, answer or "", "")
        raise AssertionError(f"first boot started {argv}")

    def _programs(self, argv: Sequence[str], stdin: str) -> dict[str, Callable[[], Any]]:
        """What each program does, by its first words."""
        disk, last = self.disk, argv[-1]
        holding = next((d for d in (*self.disks, self.disk) if last in d.names()), disk)
        return {
            "udevadm": str,
            "modprobe": str,
            "lsblk": self._lsblk,
            "wipefs --json --no-act": lambda: holding.wipefs(last),
            "wipefs --all": lambda: holding.erase(last),
            "blkdiscard --zeroout": lambda: holding.zero(int(argv[3]), int(argv[5])),
            "sync /dev/drbd0": self.cached.clear,
            "sync": str,
            "mdadm --create": lambda: self._mirror().create(argv),
            "mdadm --manage": str,
            "mdadm --stop": lambda: self._mirror().stop(),
            "sfdisk": lambda: self._sfdisk(holding, stdin),
            "drbdmeta 0": lambda: disk.create_md(argv[3]) if last == "create-md" else disk.dump_md(argv[3]),
            "drbdmeta --force": lambda: disk.dump_md(argv[4], force=True),
            "blockdev --getsize64": lambda: "1000000\n",
            "dpkg-query": lambda: "0.1.0",
            "ssh-keygen -y": lambda: Path(last).read_text().replace("PRIVATE", KEY),
            "ssh-keygen -q": lambda: self._ssh_keygen(Path(last)),
            "systemctl is-failed": lambda: (1, "", ""),
            "systemctl start --no-block ssh.service": str,
            "systemctl start --no-block xenpair-storage.service": self._storage_up,
            "systemctl start --no-block heartbeat.service": lambda: self._set("heartbeat"),
            "systemctl start --no-block xenpair-guests.service": lambda: self._set("supervised"),
            "systemctl is-active --quiet xenpair-guests.service": lambda: (0 if self.supervised else 3, "", ""),
            "systemctl start systemd-networkd.service": lambda: self._set("linked"),
            "networkctl reload": str,
            "nft -f": lambda: self._set("filtered"),
            "nft list": lambda: (0 if self.filtered else 1, "", ""),
            "ip -brief": self._addresses,
            "vgs": self._vgs,
            "vgchange": str,
            "pvcreate": self._pvcreate,
            "vgcreate": lambda: self._cached(4096, b"VG data"),
            "cl_status hbstatus": lambda: "Heartbeat is running" if self.heartbeat else "Heartbeat is stopped",
            "cl_status nodestatus": lambda: "active\n" if self.heartbeat else "",
        }

    def _set(self, what: str) -> None:
        self.tick()
        setattr(self, what, True)

    def _mirror(self) -> FakeMirror:
        assert self.mirror, "mdadm on a node without a mirror"
        return self.mirror

    def _lsblk(self) -> str:
        root = {"path": "/dev/vda1", "type": "part", "size": SIZE, "ro": False, "mountpoints": ["/"]}
        system = {"path": "/dev/vda", "type": "disk", "size": SIZE, "ro": False, "serial": "system-xen1"}
        return json.dumps({"blockdevices": [{**system, "children": [root]}, *(disk.row() for disk in self.disks)]})

    def _sfdisk(self, disk: FakeDisk, script: str) -> None:
        words = dict(word.split("=") for word in script.splitlines()[1].split(", "))
        disk.partition(words["uuid"], words["name"])

    def _ssh_keygen(self, path: Path) -> None:
        self.tick()
        self.keys_made += 1
        path.write_text(f"PRIVATE{self.keys_made}\n")
        self.tick()
        path.with_name(path.name + ".pub").write_text(f"{KEY}{self.keys_made}\n")
        self.tick()

    def _storage_up(self) -> None:
        # Attached, then connected and declared equal, then promoted.
        self.disk.attach(agreed=self.disk.precious)
        self.disk.attach(agreed=True)
        self.drbd = WHOLE

    def _addresses(self) -> str:
        me = self.cluster.nodes[0].addresses
        return f"eth1 UP {me.cluster}\nxenbr0 UP {me.guest}\n" if self.linked else ""

    def _lvm(self) -> int:
        assert self.disk.attached, "LVM before DRBD"
        return self.disk.view("/dev/drbd0")[0]

    def _has_group(self) -> bool:
        at = self._lvm() + 4096
        return self.disk.bytes[at : at + 7] == b"VG data"

    def _pvcreate(self) -> None:
        assert not self._has_group(), "pvcreate on a volume group"
        self._cached(536, b"LVM2 001")

    def _cached(self, at: int, data: bytes) -> None:
        """A write that the disk has in its cache: a power cut takes it back, if nobody asks for it to be flushed."""
        at += self._lvm()
        disks = self.mirror.active if self.mirror else [self.disk]
        self.cached += [(disk, at, bytes(disk.bytes[at : at + len(data)])) for disk in disks]
        self.disk.put(at, data)

    def _vgs(self) -> str:
        if not self._has_group():
            return '{"report": [{"vg": []}]}'
        row = '"vg_name": "data", "vg_uuid": "u", "vg_seqno": "1", "vg_size": "1", "vg_free": "1"'
        return f'{{"report": [{{"vg": [{{{row}, "pv_name": "/dev/drbd0"}}]}}]}}'


class FakePeer:
    """In place of the JoinAgent: a peer that states its facts at once."""

    def __init__(self, terms: Any, *, on_facts: Callable[[Facts], None], **_: object) -> None:
        self.terms, self.on_facts = terms, on_facts

    def start(self) -> None:
        peer = self.terms.peer.name
        changes = {"node": peer, "host_key": f"{KEY} {peer}", "user_key": f"{KEY} {peer}", "partition": PEER_PARTITION}
        self.on_facts(self.terms.facts.model_copy(update={**changes, "fresh": True}))

    def stop(self) -> None:
        pass


def install(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the fake node in the place of the machine."""

    class Popen:
        pid = 0

        def __init__(self, argv: Sequence[str], **_: object) -> None:
            self.args = argv

        def communicate(self, stdin: str | None = None, **_: object) -> tuple[str, str]:
            self.returncode, output, errors = node.program(self.args, stdin)
            return output, errors

    volatile = str(node.places.at("run"))

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        if path.startswith(volatile):
            return
        try:
            node.tick()
        except PowerCut:
            if path == str(node.places.journal):
                # A part of the line has come to the disk.
                data = node.places.journal.read_bytes()
                line = data.splitlines(keepends=True)[-1]
                os.truncate(path, len(data) - node.ticks * 7 % (len(line) + 1))
            raise

    def rename(path: Path, target: Path) -> Path:
        if not str(target).startswith(volatile):
            node.tick()
        os.rename(path, target)  # noqa: PTH104  Path.rename is what is replaced
        return target

    me = node.cluster.nodes[0]
    names = {"eth0": me.nics.guest, "eth1": me.nics.cluster}

    def edges(device: str, size: int) -> Edges:
        disk = next(disk for disk in node.disks if disk.path == device)
        assert edge_ranges(size) == ((0, len(disk.bytes)),)
        return edges_of(bytes(disk.bytes))

    def exists(device: Path) -> bool:
        return any(str(device) in disk.names() for disk in (*node.disks, node.disk))

    def kernel_name(device: Path) -> str | None:
        if node.mirror and str(device) in node.mirror.names():
            return DEVICE
        disk = next((disk for disk in node.disks if str(device) in disk.names()), None)
        return f"{disk.path.removeprefix('/dev/')}1" if disk else None

    def array(name: str) -> Array:
        assert node.mirror
        assert name == DEVICE
        return Array(node.mirror.running, frozenset(f"{h.path.removeprefix('/dev/')}1" for h in node.mirror.active))

    def holders(name: str) -> tuple[str, ...]:
        return node.mirror.holders(f"/dev/{name}") if node.mirror else ()

    def sysfs(path: str) -> Path:
        return Path("/" if node.linked else "/nowhere")

    replaced: dict[str, object] = {
        "config.door.subprocess.Popen": Popen,
        "config.door.kill_group": lambda *_: None,
        "config.door.os.fsync": fsync,
        "pathlib.Path.rename": rename,
        "time.sleep": lambda *_: None,
        "firstboot.steps.identity.socket.gethostname": lambda: node.hostname,
        "firstboot.steps.identity.socket.sethostname": lambda name: setattr(node, "hostname", name),
        "firstboot.steps.join.JoinAgent": FakePeer,
        "firstboot.steps.network.Path": sysfs,
        # As they are, but made once: most of the time of a first boot goes into them.
        "firstboot.node.ThisNode._templates": TEMPLATES,
        "firstboot.node.load": loaded,
    }
    for target, value in replaced.items():
        monkeypatch.setattr(target, value)
    eyes: dict[str, object] = {
        "nics": lambda: names,
        "machine": lambda: Machine(names, "", ""),
        "drbd": lambda: node.drbd,
        "drbd_version": lambda: "8.4.11",
        "replicated_size": lambda: 0 if node.drbd == UNCONFIGURED else REPLICATED,
        "edges": edges,
        "exists": exists,
        "held": lambda device: node.disk.attached or bool(holders(device.removeprefix("/dev/") + "1")),
        "kernel_name": kernel_name,
        "holders": holders,
        "array": array,
    }
    for name, value in eyes.items():
        monkeypatch.setattr(observe, name, value)
