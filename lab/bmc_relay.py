"""The BMCs' place on the guest segment: `python -m lab.bmc_relay`, in the lab's directory.

One process owns the addresses of all BMCs. It sits at the end of a cable of the lab's switch, answers ARP and ping for
them, and passes UDP datagrams on to the ipmi_sim of each, which listens on 127.0.0.1, and back: one socket there for
each port of a node that talks to a BMC, as ipmi_sim tells its clients apart by their ports.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
from collections import OrderedDict
from ipaddress import IPv4Address
from pathlib import Path

from lab import bmc_view, frames
from lab.bmc_view import Bmc
from lab.frames import Datagram, Host, Ping, WhoHas

SWITCH_END, RELAY_END = "guest-BMC.switch", "guest-BMC.nic"
"""File names of the cable's sockets, as lab.switch.Cable says them."""
FRAME = 65536
"""Largest datagram read."""
CONVERSATIONS = 64
"""How many are kept open; the one that was silent longest is closed for a new one."""
_SESSIONLESS = bytes.fromhex("0600ff070600") + bytes(8)
"""RMCP header, authentication type RMCP+, payload type IPMI, session and sequence number 0 (IPMI 2.0, section 13)."""
_SESSIONLESS_15 = bytes.fromhex("0600ff0700") + bytes(8)
"""The same in IPMI 1.5's format: authentication type none, sequence and session number 0."""


def for_ipmi_sim(payload: bytes) -> bytes:
    """A datagram as ipmi_sim understands it.

    It drops IPMI messages outside a session when they come in IPMI 2.0's format (handle_no_session in OpenIPMI 2.0.33's
    lanserv_ipmi.c), which real BMCs answer. ipmitool asks so for the cipher suites, and would wait 10 s each time. In
    IPMI 1.5's format, where the length has one byte in place of two, it answers; ipmitool takes such an answer.
    """
    if not payload.startswith(_SESSIONLESS):
        return payload
    length, message = payload[len(_SESSIONLESS) : len(_SESSIONLESS) + 1], payload[len(_SESSIONLESS) + 2 :]
    return _SESSIONLESS_15 + length + message


class Conversation:
    """What one port of a node and a BMC say to each other."""

    def __init__(self, first: Datagram, bmc: Bmc, sim_port: int) -> None:
        self.node = bmc.node
        self.sim_port = sim_port
        self.client, self.port = first.sender, first.source
        self.owner, self.owner_port = first.receiver, first.destination
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", sim_port))

    def frame(self, payload: bytes) -> bytes:
        """What the BMC says, on its way to the node."""
        return frames.datagram(Datagram(self.owner, self.client, self.owner_port, self.port, payload))


class Relay:
    """The cable's end, the conversations, and the loop between them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / RELAY_END).unlink(missing_ok=True)
        self._cable = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._cable.setblocking(False)
        self._cable.bind(str(directory / RELAY_END))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._cable, selectors.EVENT_READ)
        self._conversations: OrderedDict[tuple[IPv4Address, int, str], Conversation] = OrderedDict()

    def close(self) -> None:
        """Take the cable out."""
        for conversation in self._conversations.values():
            conversation.socket.close()
        self._selector.close()
        self._cable.close()

    def step(self, timeout: float | None = None) -> None:
        """Wait at most timeout seconds for something to do, and do it."""
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._cable:
                with contextlib.suppress(BlockingIOError):
                    self.receive(self._cable.recv(FRAME))
            else:
                self._reply(key.data)

    def receive(self, frame: bytes) -> None:
        """One frame from the segment."""
        said = frames.parse(frame)
        if said is None:
            return
        address = said.target if isinstance(said, WhoHas) else said.receiver.address
        bmcs = [bmc for bmc in self._reachable() if bmc.address == str(address)]
        if not bmcs:
            return
        owner = Host(frames.mac_of(address), address)
        if isinstance(said, WhoHas):
            self._send(frames.arp_reply(said, owner))
        elif said.receiver != owner:
            return
        elif isinstance(said, Ping):
            self._send(frames.echo_reply(said))
        else:
            for bmc in bmcs:
                if bmc.port == said.destination and bmc.sim_port is not None:
                    self._pass_on(said, bmc, bmc.sim_port)

    def _reachable(self) -> list[Bmc]:
        return [bmc for bmc in bmc_view.read(self._directory) if bmc.mode != "unreachable"]

    def _pass_on(self, said: Datagram, bmc: Bmc, sim_port: int) -> None:
        key = (said.sender.address, said.source, bmc.node)
        conversation = self._conversations.get(key)
        # ipmi_sim has another port after it was started again.
        if conversation is None or (conversation.sim_port, conversation.client) != (sim_port, said.sender):
            self._close(key)
            if len(self._conversations) == CONVERSATIONS:
                self._close(next(iter(self._conversations)))
            conversation = self._conversations[key] = Conversation(said, bmc, sim_port)
            self._selector.register(conversation.socket, selectors.EVENT_READ, conversation)
        self._conversations.move_to_end(key)
        # An ipmi_sim that is gone makes no answer, and neither do we.
        with contextlib.suppress(OSError):
            conversation.socket.send(for_ipmi_sim(said.payload))

    def _reply(self, conversation: Conversation) -> None:
        try:
            payload = conversation.socket.recv(FRAME)
        except OSError:
            return
        if any(bmc.node == conversation.node for bmc in self._reachable()):
            self._send(conversation.frame(payload))

    def _close(self, key: tuple[IPv4Address, int, str]) -> None:
        if (conversation := self._conversations.pop(key, None)) is not None:
            self._selector.unregister(conversation.socket)
            conversation.socket.close()

    def _send(self, frame: bytes) -> None:
        # A switch that is not there, or has no room, loses frames as any other.
        with contextlib.suppress(OSError):
            self._cable.sendto(frame, str(self._directory / SWITCH_END))


def main() -> int:
    """Run until killed. The cable's socket is made in the working directory."""
    relay = Relay(Path())
    while True:
        relay.step()


if __name__ == "__main__":
    sys.exit(main())
