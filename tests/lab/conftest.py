"""The lab tier: a pair booted from the built image, or any two hosts that `invoke verify --hosts` names."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from config.errors import CommandError
from config.loader import load
from config.model import Cluster, Node
from images.build import build_image
from images.progress import Progress
from lab.campaign.audits import forgotten, ran_twice
from lab.console import Follower
from lab.guest import GUESTS, Answer, ask, diary, heard, read_diary, write_guest_config
from lab.machine import EMPTY_SYSTEM_SIZE
from lab.media import Firmware
from lab.origin import Origin
from lab.pair import INSTALL_TIMEOUT, Lab, directory
from lab.small import write_small_config

PROJECT = Path(__file__).resolve().parents[2]

FORMED_LAB = PROJECT / ".lab" / "test"

EMULATOR_PANIC = PROJECT / ".lab" / "emulator-panic"
"""Makefile plays what failed once more where this is left."""
UNASKED = b"exc_debug"
"""In the trace of a kernel that died of a debug exception: nothing here sets a breakpoint, nor steps."""

BOOT_LIMIT = 1200.0
"""Seconds for a step, or for a boot, under emulation."""
GUEST_LIMIT = 300.0
"""Seconds for a guest to be started and to answer, under emulation."""
HEARTBEAT_LIMIT = 240.0
"""Seconds from usable storage until both heartbeats have heard each other: initdead is 60."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xenpair")
    group.addoption(
        "--cluster-hosts", default="", help="the two booted nodes, in the config's order: root@ADDRESS,root@ADDRESS"
    )
    group.addoption("--lab", default="", help="a lab whose pair is formed already, and stays as the tests leave it")
    group.addoption("--cluster-ssh-config", default=None, help="ssh_config through which they are reached")
    group.addoption("--cluster-config", default=str(PROJECT / "config" / "cluster.yaml"), help="the config they run")


@dataclass(frozen=True)
class Server:
    """A booted node: how to ask it, and what the config says it is."""

    host: Host
    node: Node
    peer: Node
    cluster: Cluster

    def ask(self, command: str) -> str:
        """Standard output of a shell command that has to succeed."""
        return str(self.host.check_output(command))


@dataclass(frozen=True)
class Servers:
    """Both, in the config's order; lab is None where the hosts are not the lab's."""

    first: Server
    second: Server
    lab: Lab | None

    def __iter__(self) -> Iterator[Server]:
        return iter((self.first, self.second))


def reach(cluster: Cluster, names: list[str], ssh_config: Path | None, lab: Lab | None) -> Servers:
    """Connect to both nodes."""
    servers = [
        Server(
            testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh_config) if ssh_config else None),
            node,
            cluster.peer_of(node.name),
            cluster,
        )
        for name, node in zip(names, cluster.nodes, strict=True)
    ]
    return Servers(servers[0], servers[1], lab)


@pytest.fixture(scope="session")
def config_file(pytestconfig: pytest.Config) -> Path:
    """The config that the image is made from, and the pair."""
    return Path(pytestconfig.getoption("--cluster-config"))


@pytest.fixture(scope="session")
def small_config_file(config_file: Path) -> Path:
    """The same pair on small disks, for what compares or copies them whole."""
    return write_small_config(config_file, PROJECT / ".lab" / "test-small.yaml")


@pytest.fixture(scope="session")
def guest_config_file(config_file: Path) -> Path:
    """The same with two guests."""
    return write_guest_config(config_file, PROJECT / ".lab" / "test-guests-config")


@pytest.fixture(scope="session")
def image(config_file: Path) -> Path:
    """The built image, and beside it what installs it; a build with nothing changed does no work."""
    artifacts = build_image(
        load(config_file), PROJECT / "out", ["qcow2", "iso", "netboot"], cache=PROJECT / ".cache", progress=Progress()
    )
    assert artifacts.qcow2 is not None
    return artifacts.qcow2


def fresh_lab(where: Path, config_file: Path, image: Path | Origin, firmware: Firmware, secrets_dir: Path) -> Lab:
    """A lab with empty disks, whatever an interrupted run has left there."""
    if where.exists():
        try:
            Lab(where).reset()
        finally:
            shutil.rmtree(where, ignore_errors=True)
    return Lab.prepare(where, config_file, image, firmware=firmware, secrets_dir=secrets_dir)


def reset(lab: Lab) -> None:
    """Delete the lab; where QEMU has made a kernel of its nodes die, that is remembered."""
    for console in lab.directory.glob("*.log"):
        if UNASKED in (content := console.read_bytes()):
            EMULATOR_PANIC.write_bytes(content[max(0, content.index(UNASKED) - 4096) :])
    lab.reset()


def status(lab: Lab, node: str) -> dict[str, Any]:
    """What the node says of itself; empty while it does not answer."""
    try:
        answer: dict[str, Any] = json.loads(lab.ssh(node, "xenpair", "status", "--json", check=False).stdout)
    except (CommandError, ValueError):
        return {}
    return answer


def wait_until(lab: Lab, node: str, limit: float, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Until the node's status is as wanted; returns it."""
    deadline = time.monotonic() + limit
    while not ((found := status(lab, node)) and wanted(found)):
        assert time.monotonic() < deadline, f"{node} does not become what was expected: {found}"
        time.sleep(1)
    return found


def assert_healthy(lab: Lab) -> None:
    """Both nodes say so; heartbeat may need a moment more than the storage."""
    for node in lab.state().cluster.nodes:
        wait_until(lab, node.name, HEARTBEAT_LIMIT, lambda found: found["health"] == "healthy")


def assert_installed(lab: Lab) -> None:
    """What an installation leaves behind, once the pair is formed."""
    for node in lab.state().cluster.nodes:
        partition = lab.ssh(node.name, "findmnt -no SOURCE /").stdout.strip()
        size = int(lab.ssh(node.name, f"blockdev --getsize64 {partition}").stdout)
        # BIOS boot partition, ESP and the two tables.
        assert EMPTY_SYSTEM_SIZE - size < 128 << 20
        blocks, each = map(int, lab.ssh(node.name, "stat -fc '%b %S' /").stdout.split())
        assert blocks * each > 0.9 * size
        private = "/etc/xenpair/secrets.yaml /var/lib/xenpair/journal.jsonl"
        assert lab.ssh(node.name, f"stat -c %a:%U {private}").stdout.split() == ["600:root", "600:root"]
        assert "report.json" not in lab.ssh(node.name, "ls /etc/xenpair").stdout.split()


def wait_for_step(lab: Lab, node: str, text: str) -> None:
    """Until the node's console has come to that step since its last power-on."""
    follower = Follower(lab.directory / f"{node}.log", lab.state().boots[node])
    deadline = time.monotonic() + BOOT_LIMIT
    while text not in (progress := follower.poll()).text:
        assert not progress.failure, f"{node}: {progress.failure}"
        assert time.monotonic() < deadline, f"{node} never came to {text!r}"
        time.sleep(0.1)


def answer(lab: Lab, name: str, address: str, node: str = "xen2") -> Answer | None:
    """What it says of itself; None where it does not answer."""
    found = heard(lab.ssh(node, ask(address), check=False).stdout)
    return found if found is not None and found.name == name else None


def wait_for(what: str, happened: Callable[[], Any], limit: float = GUEST_LIMIT) -> Any:
    deadline = time.monotonic() + limit
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what}: not within {limit:.0f} s"
        time.sleep(1)
    return found


def lose_power(lab: Lab) -> None:
    """Both nodes, at once; one alone waits for the other, and no guest has lost what it had answered for."""
    before = {
        name: wait_for(f"{name} answers", partial(answer, lab, name, address)) for name, (_, address) in GUESTS.items()
    }
    lab.kill()
    lab.start("xen1")
    wait_for_step(lab, "xen1", "xen2 may have gone on without this side")
    lab.start("xen2")
    lab.wait()
    group = lab.state().cluster.storage.volume_group
    for name, last in before.items():
        entries = diary(lab.ssh("xen1", read_diary(group, name)).stdout)
        assert ran_twice(entries) == []
        assert forgotten(entries, [last]) == []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is asked of the formed pair is asked again after both nodes have lost power."""
    if "servers" in metafunc.fixturenames:
        boots = ["as-found"] if metafunc.config.getoption("--cluster-hosts") else ["first-boot", "after-power-loss"]
        metafunc.parametrize("servers", boots, indirect=True, scope="module")


@pytest.fixture(scope="session")
def formed_lab(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Lab | None]:
    """The pair with two guests, on BIOS firmware, formed from two empty servers, or the one that --lab names.

    They are installed over the network, or start from the image where root is missing. None for hosts that are not the
    lab's.
    """
    if pytestconfig.getoption("--cluster-hosts"):
        yield None
        return
    if name := pytestconfig.getoption("--lab"):
        yield Lab(directory(name))
        return
    config_file, image = request.getfixturevalue("config_file"), request.getfixturevalue("image")
    guests = request.getfixturevalue("guest_config_file")
    origin = Origin.read("pxe", image.parent) if os.geteuid() == 0 else image
    lab = fresh_lab(FORMED_LAB, guests, origin, "bios", config_file.parent / "secrets")
    try:
        lab.up(timeout=INSTALL_TIMEOUT)
        if isinstance(origin, Origin):
            assert_installed(lab)
        yield lab
    finally:
        reset(lab)


@pytest.fixture(scope="module")
def servers(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, config_file: Path, formed_lab: Lab | None
) -> Servers:
    """Both nodes of a formed pair: after first boot, and after both have lost power."""
    cluster = load(config_file).cluster
    if formed_lab is None:
        option = pytestconfig.getoption("--cluster-ssh-config")
        return reach(
            cluster, pytestconfig.getoption("--cluster-hosts").split(","), Path(option) if option else None, None
        )
    if request.param == "after-power-loss":
        lose_power(formed_lab)
    assert_healthy(formed_lab)
    return reach(cluster, [node.name for node in cluster.nodes], formed_lab.ssh_config, formed_lab)


@pytest.fixture(params=[0, 1], ids=["first", "second"])
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """Each of the two in turn."""
    return (servers.first, servers.second)[request.param]
