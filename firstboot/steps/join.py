"""The join as a step: talk until the peer has stated its facts, and write both statements down."""

from __future__ import annotations

import threading
from typing import ClassVar

from config.door import run, write_file
from firstboot import observe
from firstboot.blocks import SECTOR
from firstboot.errors import StorageError
from firstboot.join.agent import JoinAgent, JoinTerms
from firstboot.join.facts import Facts, JoinRecord
from firstboot.probe.metadata import room
from firstboot.report import awaited_machine
from firstboot.steps import Work
from firstboot.steps.access import HOST_KEY, USER_KEY, public_key, trust_is_written, write_trust
from firstboot.steps.disks import own_device


class Join:
    """Mutual proof, and trust from then on. Its agent talks on until stop(): the peer may have lost its record."""

    name: ClassVar[str] = "join"
    text: ClassVar[str] = "find the peer on the cluster link, prove each other, exchange keys and facts"

    def __init__(self) -> None:
        self._agent: JoinAgent | None = None

    def check(self, work: Work) -> bool:
        """Both statements are written down, for the config that is in force, and the keys are trusted."""
        record = work.node.join_record()
        return (
            record is not None
            and record.mine.config_hash == work.node.cluster.config_hash()
            and trust_is_written(work.node)
            and self._agent is not None
        )

    def apply(self, work: Work) -> None:
        """Talk until there is a record."""
        node = work.node
        record = node.join_record()
        mine = _restated(record.mine, work) if record else _state_facts(work)
        joined = threading.Event()
        if record and record.mine == mine:
            joined.set()

        def keep(theirs: Facts) -> None:
            if not joined.is_set():
                content = JoinRecord(mine=mine, peer=theirs).model_dump_json(indent=1) + "\n"
                write_file(node.places.join, content, mode=0o600)
                node.places.awaited.unlink(missing_ok=True)
                joined.set()

        terms = JoinTerms(node.cluster, node.me, node.peer, bytes.fromhex(node.secrets.join), mine)
        self._agent = JoinAgent(terms, on_facts=keep, on_refusal=work.waiting)
        self._agent.start()
        if not joined.is_set():
            missing = f"{node.peer.name} ({node.peer.addresses.cluster.ip}) has not joined yet"
            work.waiting(awaited_machine(node.places) or missing)
        joined.wait()
        write_trust(node)

    def stop(self) -> None:
        """The peer needs us no more."""
        if self._agent:
            self._agent.stop()


def _restated(facts: Facts, work: Work) -> Facts:
    """What this node has stated, under the config and the package in force now: either may have been mended since.

    Its metadata stays as it was stated: what was fresh then may be in use by now, and the pair is still the same.
    """
    version, config_hash = observe.package_version(), work.node.cluster.config_hash()
    return facts.model_copy(update={"version": version, "config_hash": config_hash})


def _state_facts(work: Work) -> Facts:
    node = work.node
    device = own_device(work.journal)
    up = observe.drbd().connection != "Unconfigured"
    # What is attached cannot be dumped, and is in use: a survivor's.
    metadata = observe.metadata(device) if device and not up else None
    if device is None or not (up or metadata):
        raise StorageError("the backing device and its metadata are gone since the disks step", hint="see `dmesg`")
    fresh = metadata is not None and metadata.fresh
    used = metadata.la_size * SECTOR if metadata else observe.replicated_size()
    run(["modprobe", "drbd"])
    return Facts(
        node=node.me.name,
        cluster=node.cluster.cluster.name,
        config_hash=node.cluster.config_hash(),
        version=observe.package_version(),
        drbd=observe.drbd_version(),
        host_key=public_key(node.places, HOST_KEY),
        user_key=public_key(node.places, USER_KEY),
        partition=str(device),
        size=room(int(run(["blockdev", "--getsize64", device]).stdout)) if fresh or not used else used,
        fresh=fresh,
    )
