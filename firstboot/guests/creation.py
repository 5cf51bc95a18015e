"""A new guest: its volume, what is installed on it, and only then its place among the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from config.errors import XenpairError
from firstboot.errors import GuestError, PeerError
from firstboot.guests import making, volumes, xen_tools, xl
from firstboot.guests.definition import Definition
from firstboot.guests.pair import Pair
from firstboot.guests.registry import registry
from firstboot.guests.side import PeerSide
from firstboot.places import Places
from firstboot.probe.xen import Hypervisor

CREATION_PATIENCE = 300.0
"""Seconds to wait for somebody else who is making or deleting a guest of that name."""


@dataclass(frozen=True)
class Wish:
    """A guest that is to be. kind auto: pvh where both nodes can; size: bytes of its disk; files by name or path.

    suite: Debian's, for xen-tools, from mirror (a URL; the one of the node's own apt if empty).
    """

    definition: Definition
    size: int
    kind: Literal["auto", "pvh", "pv"] = "auto"
    tarball: str = ""
    image: str = ""
    suite: str = ""
    mirror: str = ""


def path_of(places: Places, file: str) -> str:
    """Where a named file lies on each node: with the others that the seed medium brought, or where it says."""
    return file if not file or file.startswith("/") else str(places.files / file)


def kind_for(wanted: Literal["auto", "pvh", "pv"], *hypervisors: Hypervisor) -> Literal["pvh", "pv"]:
    """PVH needs hardware virtualisation with nested paging on every node that may run it; PV needs none.

    Raises GuestError where PVH is wanted and one node lacks it.
    """
    able = all({"hvm", "hap"} <= hypervisor.virt_caps for hypervisor in hypervisors)
    if wanted == "pvh" and not able:
        raise GuestError(
            "a PVH guest needs virtualisation with nested paging on both nodes, and Xen does not report it (hvm, hap)",
            hint="switch it on in the firmware setup, or make a PV guest: type pv, which cannot be migrated live",
        )
    return wanted if wanted != "auto" else "pvh" if able else "pv"


def create(pair: Pair, wish: Wish, say: Callable[[str], None]) -> Definition:
    """Make the guest with its disk; the caller starts it. Interrupted, it is taken back at the next call of anyone.

    Raises GuestError where it cannot be had, with nothing changed.
    """
    name = wish.definition.name
    volumes.settle(pair)
    with pair.lock(f"guest/{name}", what=f"guest create {name}", wait=CREATION_PATIENCE, waiting=say):
        peer = pair.peer()
        if peer is None:
            raise PeerError(f"{pair.brief.peer} is off, and a new guest needs both nodes")
        if name in {guest.name for guest in registry(pair.brief.volume_group)}:
            raise GuestError(f"there is a guest {name} already")
        definition = replace(
            wish.definition,
            kind=kind_for(wish.kind, xl.hypervisor(), peer.hypervisor()),
            kernel=path_of(pair.places, wish.definition.kernel),
            ramdisk=path_of(pair.places, wish.definition.ramdisk),
        )
        _check_both(pair, peer, definition)
        source = _source(pair, wish)
        say(f"{name}: a volume of {wish.size >> 20}M")
        volumes.create(pair, replace(definition, phase="making"), wish.size)
        try:
            if not isinstance(source, making.Empty):
                say(f"{name}: installing {wish.tarball or wish.image or wish.suite}")
            keys = administrators_keys(pair.places)
            making.fill(definition, Path("/dev", pair.brief.volume_group, name), source, authorized_keys=keys)
        except XenpairError:
            volumes.remove(pair, name)
            raise
        volumes.finish(pair, definition)
    return definition


def _check_both(pair: Pair, peer: PeerSide, definition: Definition) -> None:
    """What a guest needs to run must be on both nodes, or it could not be taken over."""
    files = [file for file in (definition.kernel, definition.ramdisk) if file]
    for node, side in ((pair.brief.node, pair.here), (pair.brief.peer, peer)):
        if missing := side.missing_files(files):
            raise GuestError(
                f"{node} has no {' and no '.join(missing)}", hint="a guest's kernel and ramdisk lie on both nodes"
            )
        if not side.has_bridge(definition.bridge):
            raise GuestError(
                f"{node} has no bridge {definition.bridge}", hint="`ip link show type bridge` on both nodes"
            )


def _source(pair: Pair, wish: Wish) -> making.Source:
    for kind, file in ((making.Tarball, wish.tarball), (making.Image, wish.image)):
        if file:
            path = Path(path_of(pair.places, file))
            if not path.is_file():
                raise GuestError(f"{pair.brief.node} has no {path}", hint="copy it there, or name another file")
            return kind(path)
    if wish.suite:
        xen_tools.check()
        return making.Suite(wish.suite, wish.mirror or xen_tools.mirror(pair.places))
    return making.Empty()


def administrators_keys(places: Places) -> str:
    """Who may log in to the dom0 may log in to a guest that is made from a bare rootfs; the peer's root may not."""
    try:
        lines = places.at("root/.ssh/authorized_keys").read_text().splitlines()
    except FileNotFoundError:
        return ""
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("from="))
