"""Parsers for heartbeat's cl_status."""

from __future__ import annotations

from typing import Literal

HeartbeatState = Literal["stopped", "starting", "alone", "up"]
"""stopped: not running; starting: the peer has not been heard yet; alone: the peer is dead; up: each sees the other."""


def parse_hbstatus(text: str) -> bool:
    """Whether `cl_status hbstatus` says that heartbeat runs on this machine."""
    return "is running" in text


def parse_node_status(hbstatus: str, peer_status: str) -> HeartbeatState:
    """From `cl_status hbstatus` and `cl_status nodestatus PEER`: one word."""
    if not parse_hbstatus(hbstatus):
        return "stopped"
    match peer_status.strip():
        case "active":
            return "up"
        case "dead":
            return "alone"
        case _:
            return "starting"
