"""What must hold whatever happens. Each rule has a short name, by which a test says which one it expects broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.disk import INCONSISTENT, UP_TO_DATE

if TYPE_CHECKING:
    from tests.model.node import Node
    from tests.model.world import World

GUESTS_WAIT = 500.0
"""Seconds of serving alone until the lost peer's guests are taken over, at most: deadtime, and two flights' length."""


class BrokenError(AssertionError):
    """An invariant does not hold. rule is its short name."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Audit:
    """Called after each event."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __call__(self) -> None:
        """Let everybody write who may, and look at both sides."""
        one, two = self.world.nodes
        self.world.write(one)
        self.world.write(two)
        acknowledged = self.world.acknowledged
        for node in (one, two):
            drbd = node.drbd
            if drbd.serves and node.answers:
                # A resync's target reads from its source what it does not have yet.
                data = node.disk.content | (node.peer.disk.content if drbd.linked and drbd.state < UP_TO_DATE else 0)
                if acknowledged & ~data:
                    raise self._broken("lost writes", node, "serves data that lacks acknowledged writes")
                if not drbd.linked:
                    self._may_be_alone(node, "alone", "writes alone")
        if acknowledged & one.disk.content & ~two.disk.content and acknowledged & two.disk.content & ~one.disk.content:
            raise self._broken("split brain", one, "and its peer each have acknowledged writes that the other lacks")

    def lone_promotion(self, node: Node) -> None:
        """Nothing is promoted without the peer's consent, or its being proven off."""
        self._may_be_alone(node, "promotion", "was promoted")

    def takeover(self, node: Node) -> None:
        """No guest runs twice: guests run on a Primary."""
        if node.peer.power and node.peer.drbd.primary:
            raise self._broken("guests twice", node, "takes over the guests of a peer that runs them")

    def shot(self) -> None:
        """A lost link never ends with both nodes off, as long as BMCs answer and nobody hangs."""
        if all(not node.power and node.died_of == "fenced" for node in self.world.nodes):
            self.world.both_shot = True
            if self.world.calm or self.world.strict:
                raise BrokenError("both shot", "each node has switched the other one off")

    def guests(self) -> None:
        """Who serves alone has its peer's guests before long, or a word of the administrator's would help."""
        now = self.world.clock.now
        for node in self.world.nodes:
            heartbeat = node.heartbeat
            since = [heartbeat.silent, self.world.serving_alone[node.index], node.peer.lifeless]
            long = not node.peer.power and all(at is not None and now - at > GUESTS_WAIT for at in since)
            waits = heartbeat.running and not heartbeat.left and not heartbeat.taken_over
            if long and waits and node.answers and not self.world.takes_word(node):
                raise self._broken("guests", node, "serves alone, and heartbeat still waits to take over")

    def end(self) -> None:
        """With every fault healed, nothing is left to do by hand."""
        if self.world.link.splits:
            raise BrokenError("split brain", "DRBD has found one")
        if any(node.storage == "failed" for node in self.world.nodes):
            raise BrokenError("unit failed", f"nobody starts it again: {self.world.describe()}")
        if not self.world.healthy:
            raise BrokenError("liveness", f"after all is healed: {self.world.describe()}")
        one, two = self.world.nodes
        if one.disk.content != two.disk.content:
            raise BrokenError("divergence", "both disks count as equal, and are not")
        if self.world.acknowledged & ~one.disk.content:
            raise BrokenError("lost writes", "in the healthy pair")

    def _may_be_alone(self, node: Node, rule: str, what: str) -> None:
        peer = node.peer
        if not peer.power or peer.lifeless >= node.apart:
            return
        if not peer.drbd.primary and (node.drbd.peer_state == INCONSISTENT or not peer.disk.was_up_to_date):
            return
        raise self._broken(rule, node, f"{what}, and its peer has not been off since they last agreed")

    def _broken(self, rule: str, node: Node, text: str) -> BrokenError:
        return BrokenError(rule, f"at {self.world.clock.now:.1f} s {node.name} {text}; {self.world.describe()}")
