"""Which accelerator QEMU is to use here: KVM where it really boots the image, else TCG.

That /dev/kvm exists and opens proves nothing: under a hypervisor that does not pass everything on, virtual machines can
be made there and still die in a stock kernel. So the image itself is booted once, with a time limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from config.door import run, write_file
from lab.console import Follower, Stage
from lab.errors import LabError
from lab.machine import ACCELERATION, Accelerator
from lab.monitor import execute
from lab.process import Process

KVM = Path("/dev/kvm")
LIMIT = 45.0
"""Seconds to dom0's user space. With working KVM, Xen and dom0's kernel are there in about a fifth of that."""
FIRST_SIGN = 8.0
"""Seconds to GRUB's first line, before which there is only the firmware: about one, under working KVM."""


class Verdict(BaseModel):
    """What the probe found, for one host as it was then."""

    model_config = ConfigDict(frozen=True)

    host: str
    """Hash over CPU model, kernel and QEMU version: with another of these, the verdict is void."""
    accelerator: Accelerator
    reason: str


def cache_file() -> Path:
    """Where the verdict is remembered; delete it to have the probe run again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xenpair" / "accelerator.json"


def choose(image: Path | None, memory: int, *, cache: Path, kvm: Path = KVM) -> Verdict:
    """The accelerator for this host: remembered, or found by booting image with that many bytes of memory.

    Without an image nothing is tried: then it is what is remembered, or emulation.
    """
    host = _host()
    if (fault := _refuses(kvm)) is not None:
        return Verdict(host=host, accelerator="tcg", reason=fault)
    with contextlib.suppress(OSError, ValidationError):
        remembered = Verdict.model_validate_json(cache.read_text())
        if remembered.host == host:
            return remembered
    if image is None:
        return Verdict(
            host=host, accelerator="tcg", reason="KVM was never tried on this host; `invoke lab.up` does that"
        )
    started = time.monotonic()
    fault = _boot(image, memory)
    seconds = time.monotonic() - started
    verdict = Verdict(
        host=host,
        accelerator="tcg" if fault else "kvm",
        reason=fault or f"the image came to user space under KVM in {seconds:.0f} s",
    )
    write_file(cache, verdict.model_dump_json(indent=2) + "\n")
    return verdict


def _refuses(kvm: Path) -> str | None:
    try:
        os.close(os.open(kvm, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return f"{kvm}: {e.strerror}"
    return None


def _host() -> str:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    qemu = run(["qemu-system-x86_64", "--version"]).stdout
    return hashlib.sha256("\n".join([cpu, platform.release(), qemu]).encode()).hexdigest()


def _boot(image: Path, memory: int) -> str:
    """Boot the image under KVM from a throw-away overlay; why that failed, empty when it did not."""
    with tempfile.TemporaryDirectory(prefix="xenpair-probe-") as name:
        directory = Path(name)
        log = directory / "qemu.log"
        argv = ["qemu-system-x86_64", *ACCELERATION["kvm"], "-machine", "pc", "-m", f"{memory >> 20}M", "-no-reboot"]
        argv += ["-nodefaults", "-display", "none", "-serial", "file:console", "-qmp", "unix:qmp,server=on,wait=off"]
        argv += ["-drive", f"if=virtio,format=qcow2,snapshot=on,file={str(image.resolve()).replace(',', ',,')}"]
        process = Process.spawn(argv, cwd=directory, log=log)
        try:
            fault = _watch(process, directory)
        finally:
            process.kill()
        said = log.read_text(errors="replace").strip().splitlines()
        return f"KVM does not boot the image: {fault}" + (f" ({said[0]})" if said else "") if fault else ""


def _watch(process: Process, directory: Path) -> str:
    follower = Follower(directory / "console")
    started = time.monotonic()
    while True:
        progress = follower.poll()
        seconds = time.monotonic() - started
        if progress.stage >= Stage.SYSTEMD:
            return ""
        if progress.failure:
            return progress.failure
        if not process.alive():
            return "QEMU ended"
        with contextlib.suppress(LabError):
            # A vCPU that KVM cannot go on with leaves QEMU paused in this state.
            if "internal-error" in str(execute(directory, "qmp", "query-status")):
                return "KVM internal error"
        if seconds > LIMIT or (seconds > FIRST_SIGN and progress.stage < Stage.GRUB):
            return f"after {seconds:.0f} s it had come to {progress.text}"
        time.sleep(0.2)
