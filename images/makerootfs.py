"""Inside the namespace: the first layer's tree, made by mmdebstrap, settled and packed."""

from __future__ import annotations

from pathlib import Path

from config.door import run
from images.jobs import Result, RootfsJob
from images.packages import DISABLED_UNITS, ENABLED_UNITS, MASKED_UNITS
from images.sources import proxy_environment
from images.tree import Tree


def make_rootfs(job: RootfsJob) -> Result:
    """mmdebstrap into a tree; the initramfs made once, when all that it carries is there; then a tar."""
    tree = Tree(Path(job.tree), job.date)
    # INITRD=No keeps the kernel package from making an initramfs that would be made again (initramfs-tools(7)).
    run(job.mmdebstrap, timeout=3600, env={**tree.environment, "INITRD": "No", **proxy_environment()})
    tree.lay_over(Path(job.files))
    with tree.mounted():
        _settle_units(tree)
        tree.run("update-initramfs", "-c", "-k", tree.kernel())
    tree.clean()
    run(_tar_argv(tree, Path(job.tar)), timeout=1800)
    return tree.result()


def _settle_units(tree: Tree) -> None:
    known = {path.name for path in (tree.path / "usr/lib/systemd/system").iterdir()}
    for verb, units in (("mask", MASKED_UNITS), ("disable", DISABLED_UNITS), ("enable", ENABLED_UNITS)):
        present = [unit for unit in units if unit in known or verb == "mask"]
        if present:
            tree.run("systemctl", verb, *present)


def _tar_argv(tree: Tree, tar: Path) -> list[str]:
    # Device nodes cannot be made again without real root, and the running system has its own.
    options = ["--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=./dev/*"]
    # The same tree gives the same bytes (GNU tar's manual, "Reproducibility").
    options += [f"--mtime=@{tree.date}", "--clamp-mtime", "--format=posix"]
    options += ["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    return ["tar", "-c", *options, "-C", str(tree.path), "-f", str(tar), "."]
