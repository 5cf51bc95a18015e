"""The lab itself: two virtual servers that boot the real image, and everything one can do to them.

All that a lab has lives in one directory, so that any number of labs run side by side: disks over one image, sockets,
console logs, its own SSH key, its own seed medium, and the state that lets the next command find what runs.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from config import loader, secrets
from config.door import Output, run
from config.errors import XenpairError
from config.model import Cluster, Node
from images import seed
from lab import (
    accelerator,
    bmc,
    bmc_orders,
    disks,
    machine,
    monitor,
    netserver,
    network,
    origin,
    segments,
    servers,
    snapshots,
    ssh,
    watch,
)
from lab.bmc_orders import Order
from lab.bmc_view import Mode
from lab.console import Stage
from lab.errors import InterruptedWaitError, LabError, NoLabError
from lab.media import Firmware
from lab.origin import Image
from lab.process import SOURCES, Process
from lab.report import LabStatus
from lab.state import LOCK, STATE, State, load, locked, save
from lab.survey import out_of_reach, survey
from lab.switch import Direction, Fault, Faults, Segment

log = logging.getLogger("lab.pair")

PROJECT = SOURCES
FORM_TIMEOUT = 900.0
"""Seconds for a pair to form: several times what it takes under TCG on two cores."""
INSTALL_TIMEOUT = 1800.0
"""The same, with an installation before it."""
SHUTDOWN_LIMIT = 180.0
"""Seconds for an orderly shutdown of a dom0 under TCG."""


def directory(name: str = "default") -> Path:
    """Where the lab of that name lives. Raises LabError for a name that is no plain file name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise LabError(f"{name!r} cannot be a lab's name", hint="use a-z, 0-9 and inner hyphens")
    return PROJECT / ".lab" / name


class Lab:
    """A lab in a directory. As a context manager it is down at the end, and its disks stay."""

    def __init__(self, directory: Path) -> None:
        """Open a lab that exists. Raises NoLabError."""
        self.directory = directory.resolve()
        self.state()

    @classmethod
    def create(
        cls,
        directory: Path,
        cluster: Cluster,
        image: Image,
        *,
        firmware: Firmware = "bios",
        config_file: Path | None = None,
        secrets_yaml: str = "",
    ) -> Self:
        """Make a lab, with nothing started yet; with a config file, its nodes get a seed medium with it.

        image: what is on the nodes' disks, or what they are installed from, which takes a config file.

        Raises LabError when the directory already holds something else or the lab cannot be what the config describes.
        """
        machine.check(cluster)
        disks.check_tools(firmware)
        origin.check(image)
        passwords = bmc.passwords(cluster, secrets.parse(secrets_yaml.encode(), "secrets")) if secrets_yaml else {}
        bmc.check(cluster, passwords)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / LOCK).exists():
            raise LabError(f"{directory} is not empty and no lab", hint="give the lab another directory")
        (directory / LOCK).touch()
        with locked(directory):
            key = ssh.make_key(directory)
            if config_file is not None:
                seed.write_seed(config_file, secrets_yaml, directory / machine.SEED, authorized_keys=key + "\n")
            bmc.adopt(directory, passwords)
            state = State(cluster=cluster, firmware=firmware, seeded=config_file is not None)
            save(directory, origin.adopt(image, state, directory, config_file, secrets_yaml))
        return cls(directory)

    @classmethod
    def prepare(
        cls,
        directory: Path,
        config_file: Path,
        image: Image,
        *,
        firmware: Firmware = "bios",
        secrets_dir: Path | None = None,
    ) -> Self:
        """Open the lab in directory, or make it from that config file and image, with the config's own secrets.

        Raises LabError when it exists but was made from something else.
        """
        cluster = loader.load(config_file).cluster
        try:
            lab = cls(directory)
        except NoLabError:
            text = secrets.ensure(cluster, secrets_dir or config_file.parent / "secrets").to_yaml()
            return cls.create(directory, cluster, image, firmware=firmware, config_file=config_file, secrets_yaml=text)
        state = lab.state()
        changed = [
            what
            for what, same in (
                ("config", state.cluster.config_hash() == cluster.config_hash()),
                ("image", origin.same(image, directory, state)),
                ("firmware", state.firmware == firmware),
            )
            if not same
        ]
        if changed:
            raise LabError(
                f"the lab in {directory} was made from another {' and another '.join(changed)}",
                hint=f"`invoke lab.reset --lab {directory.name}` deletes it and its disks; then say the same again",
            )
        return lab

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if (self.directory / STATE).exists():
            self.down()

    def state(self) -> State:
        """What the lab remembers. Raises NoLabError after a reset."""
        return load(self.directory)

    def up(
        self, *, until: Stage = Stage.FORMED, timeout: float = FORM_TIMEOUT, screen: watch.Display | None = None
    ) -> Mapping[str, Mapping[str, float]]:
        """Start whatever does not run and wait for it; by node, seconds from power-on to each stage and step.

        Raises as start() and wait() do.
        """
        self.start()
        return self.wait(until=until, timeout=timeout, screen=screen)

    def start(self, *names: str) -> None:
        """Power on these nodes, or all: those that already run go on running. Cables that are out stay out.

        Raises StartError when a process of the lab does not come up, LabError for a node that does not exist.
        """
        with locked(self.directory):
            self._power_on(self._nodes(self.state(), names))

    def wait(
        self,
        *names: str,
        until: Stage = Stage.FORMED,
        timeout: float = FORM_TIMEOUT,
        screen: watch.Display | None = None,
    ) -> Mapping[str, Mapping[str, float]]:
        """Wait until these nodes, or all, have come to that stage since their power-on; returns as up() does.

        Raises NotFormedError as watch.wait does, and InterruptedWaitError at Ctrl-C, which leaves the nodes running.
        """
        state = self.state()
        watched = []
        for node in self._nodes(state, names):
            if (process := state.nodes.get(node.name)) is None:
                raise LabError(f"{node.name} is off", hint=f"`invoke lab.start --node {node.name}`")
            watched.append(watch.follow(self.directory, node.name, process, state.boots[node.name]))

        guard = partial(segments.guard, self.directory, state)
        try:
            return watch.wait(
                watched, until, timeout, screen or watch.display(sys.stdout), guard, power_on=self._restart
            )
        except KeyboardInterrupt:
            raise InterruptedWaitError(
                "interrupted; the nodes go on running",
                hint="the same command waits again, `invoke lab.down` stops them",
            ) from None

    def _restart(self, name: str) -> Process:
        self.start(name)
        return self.state().nodes[name]

    def kill(self, *names: str) -> None:
        """Cut the power of these nodes, or of all: SIGKILL, as a pulled plug gives no time either."""
        with locked(self.directory):
            self._cut_power(self._nodes(self.state(), names))

    def reboot(self, *names: str, limit: float = SHUTDOWN_LIMIT) -> None:
        """Shut these nodes, or all, down in good order and power them on again; wait() waits for the boot that follows.

        Not a warm reset: after one the emulated clock may jump by minutes. A node that is still on limit seconds after
        its power button was pressed loses its power.
        """
        with locked(self.directory):
            state = self.state()
            nodes = [node.name for node in self._nodes(state, names)]
            self._power_off({name: state.nodes[name] for name in nodes if name in state.nodes}, limit)
        self.start(*nodes)

    def _power_off(self, running: Mapping[str, Process], limit: float) -> None:
        running = {name: process for name, process in running.items() if process.alive()}
        for name in running:
            monitor.execute(self.directory, machine.qmp(name), "system_powerdown")
            ssh.hang_up(self.directory, name)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda process: process.wait(limit), running.values()))
        for process in running.values():
            process.terminate()

    def down(self, *, orderly: bool = False, limit: float = SHUTDOWN_LIMIT) -> None:
        """Stop everything and keep the disks: at once, or (orderly) by each node's power button first.

        A node that is still on limit seconds after its button was pressed loses its power.
        """
        with locked(self.directory):
            # The BMCs first: none may switch a node on again in a lab that goes down.
            state = self._update(bmcs=bmc.stop(self.directory, self.state()))
            running = {name: process for name, process in state.nodes.items() if process.alive()}
            if orderly:
                self._power_off(running, limit)
            for name in state.ports:
                ssh.hang_up(self.directory, name)
            others = [process for process in (state.gateway, state.switch) if process is not None]
            for process in [*running.values(), *others]:
                process.terminate()
            netserver.stop(state, self.directory, self._update)
            self._update(nodes={}, ports={}, page=None, gateway=None, switch=None)

    def renew(self, name: str) -> None:
        """Put a new machine in the node's place: nothing on its disks. Raises LabError while the old one runs."""
        with locked(self.directory):
            state = self.state()
            (node,) = self._nodes(state, (name,))
            if name in state.nodes and state.nodes[name].alive():
                raise LabError(f"{name} runs", hint=f"`invoke lab.kill --node {name}` first")
            disks.discard(self.directory, node.name)
            boots = {other: offset for other, offset in state.boots.items() if other != name}
            self._update(boots=boots, installed=tuple(other for other in state.installed if other != name))
            if state.server is not None:
                # The next one hands out secrets again.
                state.server.terminate()
            ssh.forget(self.directory, node.name)

    def swap_backing_disks(self) -> None:
        """Put each node's backing disk into the other one. Raises LabError while one of them runs."""
        with locked(self.directory):
            state = self.state()
            if on := [name for name, process in state.nodes.items() if process.alive()]:
                raise LabError(f"not off: {' and '.join(on)}", hint="`invoke lab.down` first")
            disks.swap(self.directory, *(node.name for node in state.cluster.nodes))

    def snapshot(self, name: str) -> None:
        """Keep both machines as they are at this instant, memory and disks, under that name; they go on at once.

        Raises LabError where one of them is off, or QEMU cannot.
        """
        with locked(self.directory):
            snapshots.take(self.directory, self.state(), name, self._update)

    def restore(self, name: str, *, fails_after: Mapping[str, int] | None = None) -> None:
        """Put both machines back to a snapshot, with all cables in and all BMCs working, and let them run on.

        fails_after: by node, the number of writes after which its backing disk fails, until the next power-on.
        Raises LabError where there is no such snapshot, StartError where a machine does not start from it.
        """
        with locked(self.directory):
            state = self.state()
            snapshots.check(state, name)
            self._cut_power(state.cluster.nodes)
            for node in state.cluster.nodes:
                # Before first boot has made them, a node's host keys are other ones each time.
                ssh.forget(self.directory, node.name)
                if node.bmc:
                    # What a BMC was ordered is of a time that will not have been.
                    bmc_orders.discard(self.directory, node.name)
                    bmc_orders.create(self.directory, node.name)
                    bmc.set_mode(self.directory, self.state(), node, "ok", lambda bmcs: self._update(bmcs=bmcs))
            self._apply(())
            segments.start(self.directory, self._update)
            snapshots.resume(self.directory, self.state(), name, self._update, fails_after or {})

    def reset(self) -> None:
        """Stop everything and delete the lab with its disks and its key."""
        self.down()
        shutil.rmtree(self.directory)

    def bmc(self, name: str, mode: Mode) -> None:
        """Make the BMC of that node fail in one way, or (ok) work again: at once, and until the next call.

        Raises LabError for a node that does not exist or has no BMC.
        """
        with locked(self.directory):
            (node,) = self._nodes(self.state(), (name,))
            bmc.set_mode(self.directory, self.state(), node, mode, lambda bmcs: self._update(bmcs=bmcs))

    def obey(self, name: str) -> None:
        """Carry out what the BMC of that node was ordered, oldest first, until no order waits; failures are logged."""
        with locked(self.directory):
            nodes = self._nodes(self.state(), (name,))
            while orders := bmc_orders.waiting(self.directory, name):
                try:
                    self._obey(orders[0], nodes)
                except XenpairError as e:
                    log.error("%s failed: %s", orders[0], e)
                else:
                    log.info("%s done", orders[0])
                bmc_orders.finish(self.directory, name)

    def _obey(self, order: Order, nodes: Sequence[Node]) -> None:
        ran = [node for node in nodes if (process := self.state().nodes.get(node.name)) and process.alive()]
        if order != "on":
            self._cut_power(nodes)
        if order != "off":
            # A reset leaves a machine off that is off.
            self._power_on(nodes if order == "on" else ran)

    def cut(self, segment: Segment, *names: str, direction: Direction = "both", loss: float = 1.0) -> None:
        """Take out the cables of these nodes, or of all, on that segment: no frame passes, and the cards lose carrier.

        With a direction, or a loss (the part of the frames that is lost) below 1, the cable is bad, not out: carrier
        stays. What was wrong with the same cable in that direction before is replaced.
        """
        with locked(self.directory):
            state = self.state()
            new = [
                Fault(segment=segment, node=node.name, direction=direction, loss=loss)
                for node in self._nodes(state, names)
            ]
            places = {(fault.segment, fault.node, fault.direction) for fault in new}
            kept = [f for f in state.faults if (f.segment, f.node, f.direction) not in places]
            self._apply((*kept, *new))

    def heal(self, segment: Segment | None = None, *names: str) -> None:
        """Put cables back: of that segment or of both, of these nodes or of all."""
        with locked(self.directory):
            state = self.state()
            chosen = {node.name for node in self._nodes(state, names)}
            self._apply(tuple(f for f in state.faults if f.node not in chosen or segment not in (None, f.segment)))

    def ssh(self, name: str, *command: str, timeout: float = 120, check: bool = True) -> Output:
        """Run a command on a node, as root, through its shell. Raises CommandError as config.door.run does."""
        return run(self.ssh_argv(name, *command), timeout=timeout, check=check)

    def ssh_argv(self, name: str, *command: str) -> list[str]:
        """The ssh command line for a login on that node, or for a command there."""
        state = self.state()
        self._nodes(state, (name,))
        if name not in state.ports:
            raise LabError("the lab is down", hint="`invoke lab.up` starts it")
        if (problem := out_of_reach(state, name)) is not None:
            raise LabError(f"{name} cannot be reached: {problem}")
        return ssh.argv(self.directory, name, command)

    @property
    def ssh_config(self) -> Path:
        """An ssh_config that knows both nodes by name, while the lab is up: for ssh -F, scp -F, testinfra."""
        return self.directory / ssh.CONFIG

    def status(self) -> LabStatus:
        """What runs, where each boot stands, and what the nodes that can be reached say of the pair."""
        return survey(
            self.directory,
            self.state(),
            lambda name: self.ssh(name, "xenpair", "status", "--json", timeout=90, check=False),
        )

    def _nodes(self, state: State, names: Sequence[str]) -> list[Node]:
        known = {node.name: node for node in state.cluster.nodes}
        for name in names:
            if name not in known:
                raise LabError(f"there is no node {name!r} in this lab", hint=f"its nodes: {', '.join(known)}")
        return [known[name] for name in names or known]

    def _update(self, **changes: object) -> State:
        state = self.state().model_copy(update=changes)
        save(self.directory, state)
        return state

    def _power_on(self, nodes: Sequence[Node]) -> None:
        state = self.state()
        if not any(process.alive() for process in state.nodes.values()):
            machine.check_memory(state.cluster, disks.available_memory())
        segments.start(self.directory, self._update)
        if state.verdict is None:
            image = None if state.via else self.directory / disks.BASE
            memory = max(node.memory for node in state.cluster.nodes)
            verdict = accelerator.choose(image, memory, cache=accelerator.cache_file())
            self._update(verdict=verdict)
        for node in nodes:
            servers.power_on(self.directory, self.state(), node, self._update)

    def _cut_power(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            servers.cut_power(self.directory, self.state(), node.name)

    def _apply(self, faults: tuple[Fault, ...]) -> None:
        state = self._update(faults=faults)
        if state.switch is not None and state.switch.alive():
            network.control(self.directory, Faults(faults=faults))
        for name, process in state.nodes.items():
            if process.alive():
                servers.set_carrier(self.directory, name, faults)
