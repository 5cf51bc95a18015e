"""A lab whose BMCs are real, with a `sleep` in place of each QEMU: what its tests share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.model import Cluster
from config.secrets import ensure
from lab import bmc, disks
from lab.pair import Lab
from lab.process import SOURCES, Process

STAND_IN = """\
from lab.pair import Lab
from lab.process import Process


def power_on(self, nodes):
    for node in nodes:
        if (old := self.state().nodes.get(node.name)) is None or not old.alive():
            process = Process.spawn(["sleep", "300"], cwd=self.directory, log=self.directory / "sleep.log")
            self._update(nodes={**self.state().nodes, node.name: process})


Lab._power_on = power_on
"""
"""What Python reads at its start (sitecustomize, site(7)): the BMC's own programs start a `sleep` too."""


@dataclass
class Rig:
    """A lab whose BMCs run, and nothing else of it but what stands in for its nodes."""

    lab: Lab
    password: dict[str, str]
    python: str
    """PYTHONPATH of the BMC's own programs."""

    def start(self) -> None:
        bmc.start(self.lab.directory, self.lab.state(), lambda bmcs: self.lab._update(bmcs=bmcs))

    def ipmitool(
        self, *words: str, node: str = "xen1", port: int | None = None, suite: str = "3", retries: int = 3
    ) -> tuple[int, str]:
        """Exit code and output of `ipmitool chassis power WORD`, asked at ipmi_sim's own port."""
        port = port or self.lab.state().bmcs.ports[node]
        argv = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(port), "-U", "xenpair", "-E"]
        argv += ["-N", "1", "-R", str(retries), *(["-C", suite] if suite else []), "chassis", "power", *words]
        env = {"IPMI_PASSWORD": self.password[node], "PATH": os.environ["PATH"]}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def power(self, node: str = "xen1") -> str:
        code, output = self.ipmitool("status", node=node)
        assert code == 0, output
        return output.strip().removeprefix("Chassis Power is ")

    def machine(self, node: str = "xen1") -> Process:
        return self.lab.state().nodes[node]

    def power_program(self) -> Process:
        """lab.bmc_power for xen1, as the chassis program starts it."""
        argv = [sys.executable, "-m", "lab.bmc_power", "xen1"]
        log = self.lab.directory / "xen1.bmc.log"
        return Process.spawn(argv, cwd=self.lab.directory, log=log, env={"PYTHONPATH": self.python})

    def log(self, node: str = "xen1") -> str:
        return (self.lab.directory / f"{node}.bmc.log").read_text()


def eventually(what: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def down_lab(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A lab that is down, and is again at the end; for a fixture to yield from."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(STAND_IN)
    python = f"{tmp_path / 'python'}:{SOURCES}"
    monkeypatch.setattr(bmc, "SOURCES", python)
    monkeypatch.setattr(disks, "check", lambda *_: None)
    image = tmp_path / "image.qcow2"
    image.write_bytes(b"image")
    secrets = ensure(cluster, tmp_path / "secrets")
    lab = Lab.create(tmp_path / "lab", cluster, image, secrets_yaml=secrets.to_yaml())
    rig = Rig(lab, bmc.passwords(cluster, secrets), python)
    yield rig
    if lab.directory.exists():
        lab.down()


def running(rig: Rig) -> Rig:
    """The same, with nodes and BMCs that run."""
    rig.start()
    names = [node.name for node in rig.lab.state().cluster.nodes]
    log = rig.lab.directory / "sleep.log"
    rig.lab._update(nodes={n: Process.spawn(["sleep", "300"], cwd=rig.lab.directory, log=log) for n in names})
    return rig
