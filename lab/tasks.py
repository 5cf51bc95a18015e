"""The tasks `invoke lab.*`: wiring only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from images.invoked import CONFIG, OUT, speaks

LAB_HELP = {"lab": "name of the lab; any number of them run side by side"}
NODE_HELP = {**LAB_HELP, "node": "the node's name"}


@task(
    help={**LAB_HELP, "config": "the cluster's config", "out": "where the built image is", "firmware": "bios or uefi"}
)
@speaks
def up(
    context: Context,  # noqa: ARG001
    lab: str = "default",
    config: str = str(CONFIG),
    out: str = str(OUT),
    firmware: str = "bios",
) -> int:
    """Start the pair and wait until it is formed, or say what hangs; then print its status."""
    from lab import command

    return command.up(lab, Path(config), Path(out), firmware)


@task(
    help={
        **LAB_HELP,
        "via": "usb, cd or pxe",
        "config": "the cluster's config",
        "out": "what `invoke build-image --formats iso,netboot` has made",
        "firmware": "bios or uefi",
    }
)
@speaks
def install(
    context: Context,  # noqa: ARG001
    via: str,
    *,
    lab: str = "install",
    config: str = str(CONFIG),
    out: str = str(OUT),
    firmware: str = "bios",
) -> int:
    """Start two empty servers, and wait until they are installed and the pair is formed; then print its status."""
    from lab import command

    return command.install(lab, Path(config), Path(out), firmware, via)


@task(help={**LAB_HELP, "orderly": "press the power buttons first and wait"})
@speaks
def down(context: Context, lab: str = "default", orderly: bool = False) -> None:  # noqa: ARG001
    """Stop everything; the disks stay."""
    from lab import command

    command.opened(lab).down(orderly=orderly)


@task(help=LAB_HELP)
@speaks
def reset(context: Context, lab: str = "default") -> None:  # noqa: ARG001
    """Stop everything, and delete the lab with its disks."""
    from lab import command

    command.opened(lab).reset()


@task(help={**NODE_HELP, "command": "what to run there; a login if not given"})
@speaks
def ssh(context: Context, node: str, command: str = "", lab: str = "default") -> int:  # noqa: ARG001
    """Log in to a node, or run a command there; the exit code is the command's."""
    from lab.command import opened

    argv = opened(lab).ssh_argv(node, *([command] if command else []))
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606


@task(help=NODE_HELP)
@speaks
def kill(context: Context, node: str, lab: str = "default") -> None:  # noqa: ARG001
    """Cut a node's power."""
    from lab import command

    command.opened(lab).kill(node)


@task(help=NODE_HELP)
@speaks
def renew(context: Context, node: str, lab: str = "default") -> None:  # noqa: ARG001
    """Put a new machine, with blank disks, in the place of a node that is off."""
    from lab import command

    command.opened(lab).renew(node)


@task(help={**NODE_HELP, "wait": "until the node is a member of the pair again"})
@speaks
def start(context: Context, node: str, lab: str = "default", wait: bool = False) -> None:  # noqa: ARG001
    """Switch a node's power on."""
    from lab import command

    pair = command.opened(lab)
    pair.start(node)
    if wait:
        pair.wait(node)


@task(help={**LAB_HELP, "link": "cluster or guest", "node": "at this node only"})
@speaks
def cut(context: Context, link: str, node: str = "", lab: str = "default") -> None:  # noqa: ARG001
    """Take the cable of a link out."""
    from lab import command

    command.opened(lab).cut(command.segment(link), *([node] if node else []))


@task(help={**LAB_HELP, "link": "cluster or guest; both if not given", "node": "at this node only"})
@speaks
def heal(context: Context, link: str = "", node: str = "", lab: str = "default") -> None:  # noqa: ARG001
    """Put cables back."""
    from lab import command

    command.opened(lab).heal(command.segment(link) if link else None, *([node] if node else []))


@task(help={**NODE_HELP, "mode": "ok, unreachable, lies (acknowledges a power off, does nothing) or wrong-password"})
@speaks
def bmc(context: Context, node: str, mode: str, lab: str = "default") -> None:  # noqa: ARG001
    """Make a node's BMC fail in one way, or work again."""
    from lab import command

    command.opened(lab).bmc(node, command.bmc_mode(mode))


@task(help={**LAB_HELP, "json": "for scripts"})
@speaks
def status(context: Context, json: bool = False, lab: str = "default") -> int:  # noqa: ARG001
    """How the pair is: exit 0 healthy, 2 degraded, 1 failed."""
    from lab import command

    return command.show_status(command.opened(lab), json=json)


namespace = Collection("lab", up, install, down, reset, ssh, kill, renew, start, cut, heal, bmc, status)
