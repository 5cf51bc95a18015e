"""Who this node is: host name, both nodes in /etc/hosts, files before DNS."""

from __future__ import annotations

import socket
from typing import ClassVar

from config.door import write_file
from firstboot.brief import Brief, FencingBrief, read_brief, read_fencing_brief
from firstboot.steps import Work

FILES = {
    "etc/hosts": 0o644,
    "etc/nsswitch.conf": 0o644,
    "etc/resolv.conf": 0o644,
}


class Identity:
    """Names."""

    name: ClassVar[str] = "identity"
    text: ClassVar[str] = "host name, /etc/hosts with both nodes, nsswitch"

    def check(self, work: Work) -> bool:
        """The running and the stored host name are the config's, and heartbeat can compare them."""
        node = work.node
        try:
            stored = node.places.at("etc/hostname").read_text().strip()
        except FileNotFoundError:
            stored = ""
        return (
            stored == socket.gethostname() == node.me.name
            and node.is_deployed(FILES)
            and read_brief(node.places.brief) == Brief.of(node.cluster, node.me)
            and read_fencing_brief(node.places.fencing) == FencingBrief.of(node.cluster, node.me, node.secrets)
        )

    def apply(self, work: Work) -> None:
        """Write the files, and set the name of the running system."""
        node = work.node
        node.deploy(FILES)
        Brief.of(node.cluster, node.me).write(node.places.brief)
        FencingBrief.of(node.cluster, node.me, node.secrets).write(node.places.fencing)
        write_file(node.places.at("etc/hostname"), node.me.name + "\n")
        socket.sethostname(node.me.name)
