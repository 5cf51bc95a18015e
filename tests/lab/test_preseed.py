"""A node installed by Debian's own installer, from power-on to its reboot, with the answers that we serve."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.door import run
from config.loader import Loaded, load
from images import sources, udebs
from images.cache import Cache
from images.deb import Package, firstboot_package
from images.disk import DISK_SIZE, PARTITIONS
from images.errors import MirrorError
from images.preseed import write_preseed
from images.progress import Progress
from lab import machine
from tests.lab.conftest import PROJECT

DISKS: tuple[machine.Purpose, ...] = ("system", "backing")
LIMIT = 3600.0
"""Seconds for the whole installation, under emulation."""
COMMAND_LINE = (
    "auto=true priority=critical interface=auto console=ttyS0,115200 DEBIAN_FRONTEND=text url={url}/preseed/preseed.cfg"
)


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """A web server for the guest of QEMU's user network, where the host is 10.0.2.2."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://10.0.2.2:{server.server_port}"
        server.shutdown()


def argv(installer: udebs.Netboot, url: str, loaded: Loaded, directory: Path) -> list[str]:
    """QEMU for a server with two blank disks; it ends where the server would reboot."""
    line, node = COMMAND_LINE.format(url=url), loaded.cluster.nodes[0]
    drives: list[str] = []
    for purpose in DISKS:
        serial = machine.disk(loaded.cluster, node, purpose).serial
        drives += ["-drive", f"if=none,id={purpose},format=raw,file={directory / purpose},cache=unsafe"]
        drives += ["-device", f"virtio-blk-pci,drive={purpose},serial={serial}"]
    return [
        "qemu-system-x86_64",
        *machine.ACCELERATION["tcg"],
        *("-machine", "pc", "-smp", "2", "-m", "2G", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", str(installer.linux), "-initrd", str(installer.initrd), "-append", line),
        *("-serial", f"file:{directory / 'console'}", "-device", "virtio-rng-pci"),
        *("-netdev", "user,id=net", "-device", f"virtio-net-pci,netdev=net,mac={node.match.mac},romfile="),
        *drives,
    ]


@pytest.mark.long
def test_debians_installer_installs_a_node(config_file: Path) -> None:
    loaded, cache = load(config_file), Cache(PROJECT / ".cache")
    debian = loaded.cluster.debian
    mirror = sources.resolve(debian)
    (PROJECT / ".lab").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PROJECT / ".lab") as name:
        directory = Path(name)
        try:
            installer = udebs.netboot(mirror, debian.suite, cache, Progress())
            offer = udebs.survey_udebs(mirror, debian.suite, directory)
        except MirrorError as e:
            pytest.skip(f"the mirror has no installer: {e.message}")
        lacking = udebs.missing(offer, installer)
        if not lacking:
            wanted = [p for p in udebs.loaded(offer.packages, installer.kernel) if p.name not in installer.installed]
            lacking = udebs.fetch_templates(mirror, wanted, cache).lacking
        if lacking:
            pytest.skip(f"Debian's installer {installer.version} cannot run from this mirror, which lacks {lacking}")
        write_preseed(
            loaded, firstboot_package(Package.read(), cache), directory / "out", cache=cache, progress=Progress()
        )
        for disk in DISKS:
            with (directory / disk).open("wb") as f:
                f.truncate(2 * DISK_SIZE)
        with served(directory / "out") as url:
            qemu = argv(installer, url, loaded, directory)
            ended = subprocess.run(qemu, timeout=LIMIT, check=False, capture_output=True)
        assert ended.returncode == 0, ended.stderr
        check(directory)


def check(directory: Path) -> None:
    """What the installation has left on the two disks."""
    table = run(["sfdisk", "--dump", directory / "system"]).stdout
    assert "label: gpt" in table
    starts = [int(start) for start in re.findall(r"start= *(\d+)", table)]
    assert len(starts) == len(PARTITIONS)
    root = f"{directory / 'system'}?offset={starts[-1] * 512}"
    for path in ("/etc/xenpair/cluster.yaml", "/usr/bin/xenpair", "/etc/default/grub.d/00-xenpair.cfg"):
        assert "Type: regular" in run(["debugfs", "-R", f"stat {path}", root]).stdout, path
    assert "with Xen hypervisor" in run(["debugfs", "-R", "cat /boot/grub/grub.cfg", root]).stdout
    assert run(["debugfs", "-R", "cat /etc/hostname", root]).stdout == "localhost\n"
    assert "Type" not in run(["debugfs", "-R", "stat /etc/ssh/ssh_host_ed25519_key", root]).stdout
    assert run(["cmp", "--bytes", str(2 * DISK_SIZE), directory / "backing", "/dev/zero"], timeout=None).stdout == ""
