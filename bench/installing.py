"""How long the installer takes, against the same image unpacked and the same bytes written by zstd and dd alone."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from bench.rows import Row
from config.loader import load
from images.build import build_image
from images.disklayer import TREE
from images.installer import BOOTED, OPTIONS
from images.iso import LABEL
from images.progress import Progress
from lab import accelerator, disks, machine
from lab.errors import LabError
from lab.origin import Origin
from lab.pair import Lab
from lab.process import Process

INSTALLING_LIMIT = 1.5
"""Times the floor."""
_STEPS = ("start", "source", "write", "hand-over")
_TIMEOUT = 1800.0


def measure_installing(config: Path, cache: Path, out: Path) -> list[Row]:
    """One server with an empty disk is installed from a stick; the floor is measured by itself, between two steps.

    Raises BuildError, LabError or StartError.
    """
    loaded = load(config)
    build_image(loaded, out, ["qcow2", "iso"], cache=cache, progress=Progress())
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="bench-"))
    try:
        origin = Origin.read("usb", out)
        lab = Lab.prepare(scratch / "lab", config, origin, secrets_dir=config.parent / "secrets")
        said = _console_of_installation(lab, out / TREE)
    finally:
        shutil.rmtree(scratch)
    floor, took = _seconds("floor: together", said), _seconds("timing: kernel-to-reboot", said)
    proving = _seconds("floor: beside it, sha256 of the packed image", said)
    return [
        Row("image unpacked to /dev/null, and as many bytes written by dd (the floor)", floor),
        Row("sha256 of the packed image, which the floor leaves out", proving),
        *(Row(f"installer: {step}", _seconds(f"timing: {step}", said)) for step in _STEPS),
        Row("installer, from its kernel's start to the reboot", took, INSTALLING_LIMIT * floor),
    ]


def _console_of_installation(lab: Lab, tree: Path) -> str:
    """All that the installer has said, from its power-on to its reboot, at which QEMU ends.

    QEMU boots the kernel itself, as only that way its command line can ask for the floor.
    """
    cluster, node = lab.state().cluster, lab.state().cluster.nodes[0]
    disks.make(lab.directory, cluster, node, "bios", empty=True)
    kernel, *archives = (tree / name for name in BOOTED)
    initrd = lab.directory / "initrd"
    with initrd.open("xb") as whole:
        for archive in archives:
            whole.write(archive.read_bytes())
            # The kernel takes the next archive at a multiple of four.
            whole.write(bytes(-whole.tell() % 4))
    verdict = accelerator.choose(None, node.memory, cache=accelerator.cache_file())
    argv = machine.argv(
        cluster,
        node,
        firmware="bios",
        accelerator=verdict.accelerator,
        seed=False,
        via="usb",
        ends_at_reset=True,
    )
    options = f"{OPTIONS} xenpair.medium={LABEL} xenpair.bench"
    boot = ["-kernel", str(kernel.resolve()), "-initrd", str(initrd), "-append", options]
    # A kernel from the command line takes the first place in the boot order, and wants no other there.
    argv = [re.sub(r",bootindex=\d+", "", word) for word in argv]
    process = Process.spawn([*argv, *boot], cwd=lab.directory, log=lab.directory / "qemu.err")
    try:
        ended = process.wait(_TIMEOUT)
    finally:
        process.kill()
    said = (lab.directory / f"{node.name}.log").read_text(errors="replace")
    if not ended:
        raise LabError(f"the installer is not done within {_TIMEOUT:.0f} s; the end of its console:\n{said[-2000:]}")
    return said


def _seconds(what: str, said: str) -> float:
    if (found := re.search(rf"{what} ([0-9.]+)", said)) is None:
        raise LabError(f"the installer's console never said {what!r}; its end:\n{said[-2000:]}")
    return float(found[1])
