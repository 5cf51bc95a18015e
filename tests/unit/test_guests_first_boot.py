"""The last step of first boot: the config's guests are made once, and nothing that happens to the peer ends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.door import Output
from firstboot.errors import GuestError, HeldError, NotNowError, PeerError
from firstboot.guests.definition import Definition, Guest
from firstboot.plan.replication import InitialSync
from firstboot.probe.xen import Domain
from firstboot.steps import Work, guests

WEB = Definition("web01", "xen1", 64 << 20, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
RUNS = Domain("web01", 4, 64, 1, "running")


@dataclass
class Stage:
    """What the step sees: volumes, domains on both nodes, and what the next creations come to."""

    sync: InitialSync = InitialSync.SKIP
    volumes: list[Definition] = field(default_factory=list)
    here: list[Domain] = field(default_factory=list)
    peers: list[Domain] | None = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    starts: bool = True
    said: list[str] = field(default_factory=list)
    created: int = 0

    def create(self, *_: Any) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.created += 1
        self.volumes.append(WEB)
        if self.starts:
            self.here.append(RUNS)

    def peer(self) -> Any:
        if self.peers is None:
            raise PeerError("xen2 does not answer")
        return SimpleNamespace(domains=lambda: tuple(self.peers or ()))

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(guests, "run", lambda *_, **__: Output(0, "", ""))
    monkeypatch.setattr(guests.time, "sleep", lambda _: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(guests, "_pair", lambda _: stage)
    monkeypatch.setattr(guests.storage, "recorded_sync", lambda _: stage.sync)  # type: ignore[attr-defined]
    monkeypatch.setattr(guests, "registry", lambda _: tuple(Guest(one, 8 << 20, "u") for one in stage.volumes))
    monkeypatch.setattr(guests.xl, "domains", lambda: tuple(stage.here))  # type: ignore[attr-defined]
    monkeypatch.setattr(guests.creation, "create", stage.create)  # type: ignore[attr-defined]
    monkeypatch.setattr(guests.wishes, "from_config", lambda *_: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(guests.bell, "ring", lambda _: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(guests.held, "read", lambda _: {})  # type: ignore[attr-defined]
    return stage


def work(stage: Stage) -> Work:
    config = [SimpleNamespace(name="web01", home="xen1"), SimpleNamespace(name="db01", home="xen2")]
    cluster = SimpleNamespace(guests=config, storage=SimpleNamespace(volume_group="data"))
    node = SimpleNamespace(cluster=cluster, me=SimpleNamespace(name="xen1"), places=None)
    return Work(cast(Any, node), cast(Any, None), stage.said.append)


def test_the_guests_at_home_here_are_made_and_run(stage: Stage) -> None:
    step = guests.Guests()
    assert not step.check(work(stage))
    step.apply(work(stage))
    assert stage.created == 1
    assert step.check(work(stage))


def test_a_replaced_node_makes_no_guest_that_was_deleted_long_ago(stage: Stage) -> None:
    stage.sync = InitialSync.FROM_PEER
    assert guests.Guests().check(work(stage))


def test_a_peer_that_is_lost_meanwhile_is_waited_for(stage: Stage) -> None:
    stage.refusals = [PeerError("xen2 does not answer"), NotNowError("guest create web01 is not possible now")]
    guests.Guests().apply(work(stage))
    assert stage.created == 1
    assert "web01 is not made yet: xen2 does not answer" in stage.said


def test_a_tarball_that_is_none_ends_it_with_a_message(stage: Stage) -> None:
    stage.refusals = [GuestError("web01.tar is no tar file")]
    with pytest.raises(GuestError, match=r"web01\.tar"):
        guests.Guests().apply(work(stage))


def test_a_guest_that_the_peer_has_taken_over_is_there(stage: Stage) -> None:
    stage.volumes, stage.peers = [WEB], [RUNS]
    assert guests.Guests().check(work(stage))
    stage.peers = None
    assert not guests.Guests().check(work(stage))


def test_a_guest_that_waits_for_room_does_not_keep_first_boot_from_ending(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.volumes = [WEB]
    monkeypatch.setattr(guests.held, "read", lambda _: {"web01": HeldError("no room").message})  # type: ignore[attr-defined]
    assert guests.Guests().check(work(stage))
