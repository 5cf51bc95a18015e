"""dnsmasq's part: DHCP, or a proxy beside a DHCP server that is there, and TFTP of the two iPXE loaders.

Nothing of it stays: it lives in a directory that goes away with us, keeps its leases in memory, and is killed by the
kernel when we die.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from config.door import kill_group, run, stream
from config.errors import CommandError
from images import preflight
from images.serving.errors import ServeError
from images.serving.interface import Leases
from images.serving.tree import LOADERS

USER, GROUP = "nobody", "nogroup"
_CAPABILITIES = "+net_bind_service,+net_admin,+net_raw"
"""Ports below 1024; answers to who has no address yet (an ARP entry is set, packet(7) is written to)."""
PORTS = (67, 69, 4011)
"""UDP: DHCP, TFTP, PXE boot server discovery."""
LEASE = "1h"


@dataclass(frozen=True)
class Plan:
    """What dnsmasq is to do. leases: what it gives out, or None beside a DHCP server that is there."""

    interface: str
    address: IPv4Interface
    script: str
    """URL of the iPXE script."""
    leases: Leases | None


def render(plan: Plan, tftp: Path) -> str:
    """dnsmasq.conf(5)'s keys, each as dnsmasq(8) explains it. Architectures and iPXE's option 175 become tags."""
    lines = [
        "port=0",  # no DNS
        "no-resolv",
        "no-hosts",
        "leasefile-ro",
        "log-facility=-",
        f"interface={plan.interface}",
        "except-interface=lo",
        "bind-interfaces",
        "enable-tftp",
        f"tftp-root={tftp}",
        # Nobody but machines that boot from the network is answered.
        "dhcp-vendorclass=set:pxe,PXEClient",
        "dhcp-ignore=tag:!pxe",
        "dhcp-match=set:ipxe,175",
        *(f"dhcp-match=set:arch{number},option:client-arch,{number}" for number in LOADERS),
        f"dhcp-boot=tag:ipxe,{plan.script},,{plan.address.ip}",
    ]
    return "\n".join([*lines, *(_proxy(plan) if plan.leases is None else _full(plan, plan.leases))]) + "\n"


def _proxy(plan: Plan) -> list[str]:
    """One service for each architecture: a client with one choice takes it at once. iPXE is given no menu at all: it
    would follow that in place of the script."""
    services = [f'pxe-service=tag:!ipxe,{number},"xenpair",{loader}' for number, loader in LOADERS.items()]
    return [f"dhcp-range={plan.address.network.network_address},proxy,{plan.address.netmask}", *services]


def _full(plan: Plan, leases: Leases) -> list[str]:
    loaders = [f"dhcp-boot=tag:!ipxe,tag:arch{n},{loader},,{plan.address.ip}" for n, loader in LOADERS.items()]
    nothing_else = ["dhcp-option=option:router", "dhcp-option=option:dns-server"]
    span = f"{leases.first},{leases.last},{plan.address.netmask},{LEASE}"
    return [f"dhcp-range={span}", "dhcp-authoritative", *nothing_else, *loaders]


def argv(config: Path) -> list[str]:
    """Privileges are dropped before dnsmasq starts: who changes its user later loses the kernel's promise to end it
    with us (prctl(2), PR_SET_PDEATHSIG)."""
    drop = ["--reuid", USER, "--regid", GROUP, "--clear-groups", "--no-new-privs"]
    keep = ["--inh-caps", f"-all,{_CAPABILITIES}", "--ambient-caps", f"-all,{_CAPABILITIES}"]
    return ["setpriv", "--pdeathsig", "KILL", *drop, *keep, "dnsmasq", "--no-daemon", f"--conf-file={config}"]


@dataclass(frozen=True)
class Dnsmasq:
    """A running dnsmasq. log: what it says, a line at a time; at its end, so has dnsmasq."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]


@contextmanager
def running(plan: Plan, tree: Path) -> Iterator[Dnsmasq]:
    """dnsmasq, for as long as that lasts. Raises ServeError where it does not take its config."""
    with TemporaryDirectory(prefix="xenpair-dnsmasq-") as directory:
        config, tftp = Path(directory, "dnsmasq.conf"), Path(directory, "tftp")
        tftp.mkdir()
        for loader in sorted(set(LOADERS.values())):
            shutil.copyfile(tree / loader, tftp / loader)
            (tftp / loader).chmod(0o644)
        config.write_text(render(plan, tftp))
        # For dnsmasq, which is not our user; there is no secret in it.
        config.chmod(0o644)
        tftp.chmod(0o755)
        Path(directory).chmod(0o755)
        check_config(config)
        log, errors = os.pipe()
        try:
            with os.fdopen(errors, "wb") as theirs:
                process = stream(argv(config), errors=theirs)
            try:
                yield Dnsmasq(process, os.fdopen(log, "rb", closefd=False))
            finally:
                kill_group(process)
        finally:
            os.close(log)


def check_config(config: Path) -> None:
    """Raise ServeError where dnsmasq does not understand it."""
    try:
        run(["dnsmasq", "--test", f"--conf-file={config}"])
    except CommandError as e:
        raise ServeError(f"dnsmasq does not take its config: {e.stderr.strip()}", hint="this is a bug") from e


def check_installed() -> None:
    """Raise ServeError where dnsmasq or what it takes is missing, or we may not start it."""
    instead = "or --dhcp none, where your own DHCP server names our boot.ipxe"
    if lacking := preflight.missing(preflight.SERVE):
        hint = f"{preflight.install_command(lacking.values())}; {instead}"
        raise ServeError(f"this host lacks {', '.join(lacking)}", hint=hint)
    if os.geteuid() != 0:
        raise ServeError("DHCP and TFTP take root", hint=f"run it with sudo; {instead}")


_MAC = r"(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})"
_SAYINGS = (
    (rf"DHCPOFFER\(\S+\) (?P<ip>\S+) {_MAC}", "{mac} is offered {ip}"),
    (rf"DHCPACK\(\S+\) (?P<ip>\S+) {_MAC}", "{mac} was given {ip}"),
    (rf"DHCPNAK\(\S+\) (?P<ip>\S+) {_MAC} ?(?P<why>.*)", "{mac} is refused {ip}: {why}"),
    (rf"PXE\(\S+\) {_MAC} proxy", "{mac} asked how to boot, and was told to ask here"),
    (rf"PXE\(\S+\) (?P<ip>[0-9.]+) {_MAC} (?P<file>\S+)", "{mac} at {ip} was told to boot {file}"),
    (r"sent \S*/(?P<file>[^/\s]+) to (?P<ip>\S+)", "{ip} has loaded {file}"),
    (r"error .* received from (?P<ip>\S+)", ""),
    (r"failed sending \S*/(?P<file>[^/\s]+) to (?P<ip>\S+)", "{ip} did not load all of {file}"),
)
"""What dnsmasq logs (rfc2131.c, tftp.c) and what we make of it. A PXE ROM breaks its first TFTP transfer off when it
knows the size: no error."""
_DULL = re.compile(r"DHCP(DISCOVER|REQUEST|RELEASE)\(|started, version|compile time options|TFTP root is|DHCP, ")


def readable(line: str) -> str:
    """A line of dnsmasq's log as people say it; empty where it is not worth saying."""
    text = re.sub(r"^(\w+ +\d+ [\d:]+ )?dnsmasq(-\w+)?(\[\d+\])?: ", "", line.strip())
    for pattern, saying in _SAYINGS:
        if match := re.search(pattern, text):
            return saying.format(**match.groupdict())
    return "" if not text or _DULL.search(text) else f"dnsmasq: {text}"
