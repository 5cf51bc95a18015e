"""Whether a guest can be moved to the peer while it runs. Pure."""

from __future__ import annotations

from config.capacity import MIB, guest_share
from firstboot.guests.definition import Definition
from firstboot.probe.xen import Hypervisor

NEEDED = ("hvm", "hap")
"""What `xl info` must list in virt_caps for a PVH guest: hardware virtualisation, nested paging."""


def obstacles(definition: Definition, mine: Hypervisor, peers: Hypervisor, bridge_there: bool) -> tuple[str, ...]:
    """All that stands in the way of a live migration to the peer; nothing where it can be tried.

    mine: where the guest runs; bridge_there: whether the peer has the guest's bridge.
    """
    found = []
    if definition.kind == "pv":
        # XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY needs CONFIG_SHADOW_PAGING, which Debian's Xen is built without.
        found.append("it is a PV guest, and Debian's Xen can migrate PVH guests only")
    elif lacking := [word for word in NEEDED if word not in peers.virt_caps]:
        found.append(f"the peer's Xen has no {' and no '.join(lacking)}, which a PVH guest needs")
    if peers.release < mine.release:
        found.append(
            f"the peer has Xen {peers.version}, older than {mine.version} here: a guest moves to an equal or newer one"
        )
    if words := missing_features(mine.hw_caps, peers.hw_caps):
        found.append(
            f"the peer's CPU lacks features of this one, which the guest may be using (hw_caps in `xl info`: {words})"
        )
    need = guest_share(definition)
    if need > peers.free_memory:
        found.append(f"it needs {-(-need // MIB)}M of memory, and the peer has {peers.free_memory // MIB}M free")
    if not bridge_there:
        found.append(f"the peer has no bridge {definition.bridge}")
    return tuple(found)


def missing_features(mine: tuple[int, ...], peers: tuple[int, ...]) -> str:
    """The bits that are in my CPU's words only, like `word 5 bits 00000020`; empty where the peer's has them all."""
    padded = peers + (0,) * (len(mine) - len(peers))
    differing = [(i, word & ~other) for i, (word, other) in enumerate(zip(mine, padded, strict=False)) if word & ~other]
    return ", ".join(f"word {i} bits {bits:08x}" for i, bits in differing)
