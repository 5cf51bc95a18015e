"""The campaign itself: from a snapshot of the formed pair, one fault, until it is healthy again, and the audits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random

from config.errors import XenpairError
from config.guest import Guest
from firstboot.probe.drbd import parse_proc_drbd
from lab.campaign import audits
from lab.campaign.catalogue import CATALOGUE
from lab.campaign.fault import Fault
from lab.campaign.scene import POLL, SCRATCH, Scene
from lab.campaign.writers import Writer, longest_pause
from lab.console import Stage
from lab.errors import LabError
from lab.guest import Answer, ask, diary, heard, read_diary
from lab.pair import Lab

HEALTH_LIMIT = 900.0
"""Seconds for the pair to be healthy again by itself, under emulation."""
SETTLE = 3.0
"""Seconds for which the writers run before the fault strikes."""
SAME_FILES = "/etc/ha.d/authkeys /etc/ha.d/haresources /etc/hosts /etc/drbd.d/xenpair.res /etc/xenpair/cluster.yaml"
"""What first boot has rendered and both nodes have alike."""
LOG = "journalctl --identifier kernel --identifier xenpair --boot all --output short-monotonic --no-hostname --quiet"
"""What DRBD has told of its state, and fencing of its proofs, in all boots."""
GUEST_LIMIT = 300.0
"""Seconds for a guest to be taken over, and to boot, after the pair is healthy again."""
VERIFY_LIMIT = 300.0
"""Seconds to compare both sides of the lab's small disks under emulation."""


@dataclass(frozen=True)
class Round:
    """What is to be done: seed decides everything in it that is left to chance."""

    number: int
    fault: Fault
    seed: str


def schedule(seed: int, rounds: int, names: Sequence[str]) -> list[Round]:
    """The rounds of a campaign: the faults in random order, each as often as the others. The same for the same seed.

    Raises LabError for a fault that does not exist.
    """
    chosen = names or list(CATALOGUE)
    for name in chosen:
        if name not in CATALOGUE:
            raise LabError(f"there is no fault {name!r}", hint=f"there are {', '.join(CATALOGUE)}")
    dice = Random(seed)  # noqa: S311 -- reproducible is what is wanted
    deck: list[str] = []
    result: list[Round] = []
    for number in range(1, rounds + 1):
        if not deck:
            deck = dice.sample(chosen, len(chosen))
        result.append(Round(number, CATALOGUE[deck.pop()], f"{seed}/{number}"))
    return result


@dataclass
class Outcome:
    """What came of a round. recovered and paused are seconds, None where there was nothing to measure."""

    round: Round
    recovered: float | None = None
    paused: float | None = None
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Account:
    """What one node says after a round. intact: of each writer, the sectors that are as they were written."""

    intact: list[int]
    log: str
    rendered: str


class Campaign:
    """Rounds on one lab, whose pair is formed and idle."""

    def __init__(self, lab: Lab, say: Callable[[str], None]) -> None:
        self.lab = lab
        self._say = say
        self._names = [node.name for node in lab.state().cluster.nodes]
        self._group = lab.state().cluster.storage.volume_group
        self._guests = lab.state().cluster.guests
        self._resource = lab.state().cluster.storage.drbd.resource

    def prepare(self) -> None:
        """Form the pair, make the volumes that are written to, and take both snapshots, unless this lab has them."""
        if "formed" in self.lab.state().snapshots:
            return
        if not self.lab.state().nodes:
            self.lab.up(until=Stage.STEPS)
            self.lab.snapshot("fresh")
        self.lab.wait()
        for node in self._names:
            scene = Scene(self.lab, Random(), self._say)  # noqa: S311
            scene.wait(f"{node} is healthy", HEALTH_LIMIT, partial(self._healthy, node), poll=3)
        self._wait_guests(Scene(self.lab, Random(), self._say))  # noqa: S311
        first, second = self._names
        for node in self._names:
            self.lab.ssh(
                first,
                f"/usr/sbin/lvcreate --yes --wipesignatures y --size 8M --name {self._volume(node)} {self._group}",
            )
        self.lab.ssh(first, f"/usr/sbin/lvcreate --yes --wipesignatures y --size 64M --name {SCRATCH} {self._group}")
        self.lab.ssh(second, f"vgchange --activate y {self._group}")
        self.lab.snapshot("formed")

    def play(self, planned: Round) -> Outcome:
        """One round, from the snapshot to the audits; whatever goes wrong in between is a finding.

        Raises LabError where the snapshot cannot be restored.
        """
        dice = Random(planned.seed)  # noqa: S311
        scene = Scene(self.lab, dice, lambda text: self._say(f"    {text}"))
        self._say(f"{planned.number:3}  {planned.fault.name}: {planned.fault.text} (seed {planned.seed})")
        self._set_up(scene, planned.fault)
        writing = self._names if planned.fault.since == "formed" else []
        writers = [Writer(self.lab, node, self._device(node), f"{planned.seed}/{node}") for node in writing]
        outcome = Outcome(planned)
        try:
            for writer in writers:
                writer.start()
            scene.wait("both nodes write", 60, lambda: all(writer.acknowledged for writer in writers))
            answers = self._wait_guests(scene) if planned.fault.since == "formed" else []
            time.sleep(SETTLE)
            planned.fault.act(scene)
            self._wait_healthy(scene)
            if scene.struck_at is not None:
                outcome.recovered = time.monotonic() - scene.struck_at
            answers += self._wait_guests(scene)
            outcome.findings += self._audit(writers, answers)
        except XenpairError as e:
            outcome.findings.append(f"{e} ({self._standing(scene)})")
        finally:
            for writer in writers:
                writer.end()
        outcome.paused = max((longest_pause(writer.acks) for writer in writers), default=None)
        return outcome

    def _set_up(self, scene: Scene, fault: Fault) -> None:
        if not fault.failing_disk:
            self.lab.restore(fault.since)
            return
        scene.failing_disk, _ = scene.pick()
        self.lab.restore(fault.since, fails_after={scene.failing_disk: scene.dice.randint(50, 250)})

    def _wait_healthy(self, scene: Scene) -> None:
        def connected(node: str) -> bool:
            state = scene.drbd(node)
            return state.both_up_to_date and (state.role, state.peer_role) == ("Primary", "Primary")

        deadline = time.monotonic() + HEALTH_LIMIT
        for node in self._names:
            # DRBD first: it costs the node nothing to ask, and `xenpair status` a second of CPU.
            scene.wait(f"{node} is a member again", deadline - time.monotonic(), partial(connected, node), poll=1)
        # Both in one pass: a node may still be fenced after the other one's word.
        scene.wait(
            "both are healthy", deadline - time.monotonic(), lambda: all(map(self._healthy, self._names)), poll=3
        )

    def _wait_guests(self, scene: Scene) -> list[Answer]:
        """Until every guest of the config answers, from wherever it runs; what they answered."""
        answers: list[Answer] = []

        def answered(guest: Guest) -> bool:
            for node in self._names:
                if (answer := self._ask(node, guest)) is not None:
                    answers.append(answer)
                    return True
            return False

        for guest in self._guests:
            scene.wait(f"{guest.name} answers", GUEST_LIMIT, partial(answered, guest), poll=2)
        return answers

    def _ask(self, node: str, guest: Guest) -> Answer | None:
        """What a guest answers to that node."""
        try:
            answer = heard(self.lab.ssh(node, ask(str(guest.network.address)), check=False, timeout=30).stdout)
        except XenpairError:
            # The node does not answer.
            return None
        return answer if answer is not None and answer.name == guest.name else None

    def _audit_guests(self, answers: Sequence[Answer]) -> list[str]:
        """Each guest runs on one node, and its diary knows of no second one, and of all that it has answered for."""
        found = []
        running = [self.lab.ssh(node, "xl list | awk 'NR > 2 {print $1}'").stdout.split() for node in self._names]
        for guest in self._guests:
            on = [node for node, names in zip(self._names, running, strict=True) if guest.name in names]
            if len(on) != 1:
                found.append(f"{guest.name} runs on {' and '.join(on) or 'no node'}")
            entries = diary(self.lab.ssh(self._names[0], read_diary(self._group, guest.name)).stdout)
            found += [f"{guest.name} ran twice at once: {line}" for line in audits.ran_twice(entries)]
            own = [answer for answer in answers if answer.name == guest.name]
            found += [f"{guest.name}: {line}" for line in audits.forgotten(entries, own)]
        return found

    def _healthy(self, node: str) -> bool:
        try:
            return self.lab.ssh(node, "xenpair status --json", check=False).returncode == 0
        except XenpairError:
            # It is off, or does not answer.
            return False

    def _standing(self, scene: Scene) -> str:
        """Where each node stands, for the account of a round that failed."""
        states = {node: scene.drbd(node) for node in self._names}
        return "; ".join(f"{node}: {s.connection} {s.role} {s.disk}/{s.peer_disk}" for node, s in states.items())

    def _audit(self, writers: Sequence[Writer], answers: Sequence[Answer]) -> list[str]:
        """What is not as it has to be after a round. Raises CommandError, LabError."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Writer.stop, writers))
            accounts = list(pool.map(partial(self._account, writers), self._names))
        found = [f"the storage refused a write of {w.node}: {w.failure()}" for w in writers if w.failure()]
        for node, account in zip(self._names, accounts, strict=True):
            for writer, intact in zip(writers, account.intact, strict=True):
                if intact < writer.acknowledged:
                    found.append(
                        f"{node} lost write {intact} of {writer.node}: {writer.acknowledged} were acknowledged"
                    )
            found += [f"{node}: {line}" for line in audits.split_brains(account.log)]
            found += [f"{node}, no consent, no proof: {line}" for line in audits.unproven(account.log)]
        if len({account.rendered for account in accounts}) > 1:
            found.append("the rendered files differ: " + " / ".join(account.rendered for account in accounts))
        return [*found, *self._audit_guests(answers), *self._verify()]

    def _account(self, writers: Sequence[Writer], node: str) -> _Account:
        return _Account(
            [writer.intact_on(node) for writer in writers],
            self.lab.ssh(node, LOG).stdout,
            self.lab.ssh(node, f"sha256sum {SAME_FILES}").stdout,
        )

    def _verify(self) -> list[str]:
        """Have DRBD compare both sides, sector by sector."""
        first = self._names[0]
        self.lab.ssh(first, f"drbdadm verify {self._resource}")
        deadline = time.monotonic() + VERIFY_LIMIT
        while (state := parse_proc_drbd(self.lab.ssh(first, "cat /proc/drbd").stdout)).connection.startswith("Verify"):
            if time.monotonic() > deadline:
                return [f"drbdadm verify did not end within {VERIFY_LIMIT:.0f} s"]
            time.sleep(POLL)
        return [f"verify: {state.out_of_sync} KiB out of sync"] if state.out_of_sync else []

    def _volume(self, node: str) -> str:
        return f"campaign-{node}"

    def _device(self, node: str) -> str:
        return f"/dev/{self._group}/{self._volume(node)}"
