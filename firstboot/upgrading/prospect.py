"""What an upgrade would do to this node, found by the code of the package that is to come, before it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from config.changes import changes
from config.guest import is_carried
from config.loader import load
from config.upgrade import NodePlan
from firstboot.brief import Brief, FencingBrief
from firstboot.errors import NodeError, UpgradeError
from firstboot.node import ThisNode, this_node
from firstboot.places import Places
from firstboot.plan import upgrade as plan
from firstboot.stack import stack
from firstboot.steps import access, identity, network, replication
from firstboot.upgrading import owed, package

Files = Mapping[str, tuple[bytes, int]]
"""Path, like etc/hosts -> content and mode."""
CONFIG = "etc/xenpair/cluster.yaml"


@dataclass(frozen=True)
class Prospect:
    """A plan, and what carries it out. node: by the new config; files: that differ; package: None where it stays."""

    plan: NodePlan
    node: ThisNode
    files: Files
    package: Path | None
    config: bytes


def prospect(places: Places, offered: Path | None, config: Path | None) -> Prospect:
    """Look, and change nothing. offered, config: None where it stays.

    Raises ConfigError for a config that is none, UpgradeError for a package that is none, or before first boot is done.
    """
    if not places.formed.exists():
        raise UpgradeError("this node is no member of a formed pair yet", hint="`xenpair status` shows how far it is")
    old = this_node(places)
    cluster = load(config).cluster if config else old.cluster
    text = (config or places.config).read_bytes()
    differences = changes(old.cluster, cluster)
    refused = [str(change) for change in differences if change.effect == "refused"]
    installed = package.installed()
    version = package.version_of(offered) if offered else installed
    new, files = old, {}
    if not refused:
        new = replace(old, cluster=cluster, me=cluster.node(old.me.name), peer=cluster.peer_of(old.me.name))
        refused += _missing_files(new, {change.path for change in differences if change.old == "none"})
        if any(change.path == "dom0.memory" for change in differences) and not plan.sets_dom0_memory(_grub(places)):
            refused.append(f"dom0.memory: /{plan.GRUB} on this node says nothing of it: set it there first")
        if offered and version != installed and (others := package.missing(offered)):
            refused.append(f"the package needs more than is installed: {others}")
        try:
            files = _differing(places, {**_wanted(new), CONFIG: (text, 0o600)})
        except NodeError as e:
            refused.append(str(e))
    refused += [f"/{file} cannot differ between the nodes" for file in files if file in stack().never_apart]
    found = NodePlan(
        node=old.me.name,
        installed=installed,
        offered=version,
        changes=differences,
        files=tuple(files),
        restart=plan.restart_reason([*files], stack().read_at_start),
        reboot=plan.reboot_reason([*files], cluster.dom0.memory),
        refused=tuple(refused),
    )
    found = owed.with_owed(found, owed.read(places), owed.boot_id(places))
    return Prospect(found, new, files, offered if version != installed else None, text)


def _wanted(node: ThisNode) -> dict[str, tuple[bytes, int]]:
    """All that xenpair has written on this node, as it is to be. Raises NodeError where the secrets lack one."""
    rendered = {**identity.FILES, **network.FILES, **access.FILES, **replication.FILES, **stack().files}
    places = node.places
    texts = {path: (node.render(path), mode) for path, mode in rendered.items()}
    texts |= {
        str(places.brief.relative_to(places.root)): (Brief.of(node.cluster, node.me).text, 0o644),
        str(places.fencing.relative_to(places.root)): (
            FencingBrief.of(node.cluster, node.me, node.secrets).text,
            0o600,
        ),
        access.AUTHORIZED_KEYS: (access.authorized_keys(node), 0o600),
        access.KNOWN_HOSTS: (access.known_hosts(node), 0o644),
    }
    if grub := _grub(places):
        texts[plan.GRUB] = (plan.with_dom0_memory(grub, node.cluster.dom0.memory), 0o644)
    return {path: (text.encode(), mode) for path, (text, mode) in texts.items()}


def _grub(places: Places) -> str:
    path = places.at(plan.GRUB)
    return path.read_text() if path.exists() else ""


def _differing(places: Places, wanted: Files) -> dict[str, tuple[bytes, int]]:
    return {path: file for path, file in wanted.items() if _found(places.at(path)) != file}


def _found(path: Path) -> tuple[bytes, int] | None:
    try:
        return path.read_bytes(), path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return None


def _missing_files(node: ThisNode, added: set[str]) -> Iterator[str]:
    """For each new guest of this node, the files that only a seed medium would have brought."""
    for guest in node.cluster.guests:
        if guest.home != node.me.name or f"guests[{guest.name}]" not in added:
            continue
        for _, file in guest.named_files():
            if is_carried(file) and not (path := node.places.files / file).exists():
                yield f"guests[{guest.name}]: {path} is not there: copy it to both nodes"
