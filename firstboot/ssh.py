"""The way to the peer: root's key, the host key that the join has told, no question, and no wait for what is gone."""

from __future__ import annotations

COMMAND = "/usr/bin/xenpair"

OPTIONS = {
    "BatchMode": "yes",
    # The peer's host key is in /etc/ssh/ssh_known_hosts since the join, and no other is believed.
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    # As long as sshd's side of it: each end gives up a peer that it has not heard for 30 s.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "6",
}


def argv(*flags: str) -> list[str]:
    """ssh, without a host: flags come before the options."""
    return ["ssh", *flags, *(word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}"))]


def to_peer(peer: str, *words: str, terminal: bool = False) -> list[str]:
    """What runs `xenpair` with these words on the peer.

    terminal: it gets one there, whether or not there is one here, and so it ends when this end does; a console that was
    left running would keep everybody else out.
    """
    return [*argv("-tt" if terminal else "-T"), peer, COMMAND, *words]
