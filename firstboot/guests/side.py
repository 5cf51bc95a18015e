"""What can be asked of either side of the pair, and done on it: the same words here and, over a session, there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.door import run
from config.errors import CommandError
from firstboot import observe
from firstboot.blocks import SECTOR
from firstboot.brief import Brief
from firstboot.errors import StorageError
from firstboot.guests import bell, groups, wire
from firstboot.places import Places

if TYPE_CHECKING:
    from firstboot.guests.peer import PeerSession
    from firstboot.probe.xen import Domain, Hypervisor

GONE = "Failed to find logical volume"
"""What LVM says of a volume that is not there, with exit code 5 as for everything else."""

CHANGE_LIMIT = 180.0
"""Seconds for the peer to change something: longer than the door gives any program there, so that its word comes."""
START_LIMIT = 480.0
"""Seconds for the peer to start a guest: it asks back first, and xl alone may take 300 (firstboot.guests.xl)."""


def _domains() -> tuple[Domain, ...]:
    from firstboot.guests import xl  # noqa: PLC0415 -- what only holds locks need not load it

    return xl.domains()


def _hypervisor() -> Hypervisor:
    from firstboot.guests import xl  # noqa: PLC0415

    return xl.hypervisor()


class LocalSide:
    """This node. Everything raises CommandError where a program fails, ProbeError where it is not understood."""

    def __init__(
        self,
        brief: Brief,
        places: Places,
        *,
        domains: Callable[[], tuple[Domain, ...]] = _domains,
        hypervisor: Callable[[], Hypervisor] = _hypervisor,
    ) -> None:
        self._brief, self._places = brief, places
        self._domains, self._hypervisor = domains, hypervisor

    def domains(self) -> tuple[Domain, ...]:
        """All domains of this node."""
        return self._domains()

    def hypervisor(self) -> Hypervisor:
        """What Xen says of itself, and how much memory it has free."""
        return self._hypervisor()

    def seqno(self) -> int:
        """How many changes of the volume group's metadata this node sees. Raises StorageError where it sees none."""
        group = observe.volume_groups().get(self._brief.volume_group)
        if group is None:
            raise StorageError(f"{self._brief.node} sees no volume group {self._brief.volume_group}")
        return group.seqno

    def activate(self, volume: str) -> None:
        """Make it usable on this node; already so is fine."""
        run(["lvchange", "--activate", "y", self._path(volume)])

    def deactivate(self, volume: str) -> None:
        """Make it unusable on this node; one that is gone is fine, one in use raises CommandError."""
        argv = ["lvchange", "--activate", "n", self._path(volume)]
        try:
            run(argv)
        except CommandError as e:
            if GONE in e.stderr:
                self._forget(volume)
            elif self._release(volume):
                run(argv)
            else:
                raise

    def _release(self, volume: str) -> bool:
        from firstboot.guests import making  # noqa: PLC0415 -- what only holds locks need not load it

        return making.release(self._places.at(f"dev/{self._path(volume)}"))

    def _forget(self, volume: str) -> None:
        """Activated here, and removed by the other node since: the kernel still maps what may be another's by now."""
        name = "-".join(part.replace("-", "--") for part in (self._brief.volume_group, volume))
        if self._places.at(f"dev/mapper/{name}").exists():
            run(["dmsetup", "remove", name])

    def refresh(self, volume: str) -> None:
        """Load its extents anew, after the other node has changed them."""
        run(["lvchange", "--refresh", self._path(volume)])

    def mapped_size(self, volume: str) -> int | None:
        """Bytes that the kernel of this node maps of it; None where it maps nothing."""
        device = self._places.at(f"dev/{self._path(volume)}").resolve().name
        try:
            return int(self._places.at(f"sys/class/block/{device}/size").read_text()) * SECTOR
        except OSError:
            return None

    def _path(self, volume: str) -> str:
        return f"{self._brief.volume_group}/{volume}"

    def missing_files(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Those that are no files here."""
        return tuple(path for path in paths if not Path(path).is_file())

    def has_bridge(self, name: str) -> bool:
        """Whether there is a bridge of that name."""
        return self._places.at(f"sys/class/net/{name}/bridge").is_dir()

    def carried(self) -> tuple[str, ...]:
        """The guest groups that this node carries."""
        return groups.carried(self._places)

    def ring(self) -> None:
        """Wake the supervisor."""
        bell.ring(self._places)

    def clear_transit(self, name: str) -> None:
        """Remove what a live migration to here has left half-made, for the other node, which holds the guest's lock."""
        from firstboot.guests import xl  # noqa: PLC0415

        for domain in self.domains():
            if domain.guest == name and domain.transit:
                xl.destroy(domain.domid)


class PeerSide:
    """The peer, over a session. Everything raises PeerError where no answer comes, or where it failed there."""

    def __init__(self, session: PeerSession) -> None:
        self._session = session

    def domains(self) -> tuple[Domain, ...]:
        """All domains of the peer."""
        from firstboot.probe.xen import Domain  # noqa: PLC0415 -- as above

        return self._ask(tuple[Domain, ...], "domains")  # type: ignore[no-any-return]

    def hypervisor(self) -> Hypervisor:
        """What its Xen says of itself."""
        from firstboot.probe.xen import Hypervisor  # noqa: PLC0415

        return self._ask(Hypervisor, "hypervisor")  # type: ignore[no-any-return]

    def seqno(self) -> int:
        """How many changes of the volume group's metadata it sees."""
        return self._ask(int, "seqno")  # type: ignore[no-any-return]

    def activate(self, volume: str) -> None:
        """Make it usable there."""
        self._session.ask("activate", CHANGE_LIMIT, volume=volume)

    def deactivate(self, volume: str) -> None:
        """Make it unusable there; one that is gone is fine."""
        self._session.ask("deactivate", CHANGE_LIMIT, volume=volume)

    def refresh(self, volume: str) -> None:
        """Load its extents anew there."""
        self._session.ask("refresh", CHANGE_LIMIT, volume=volume)

    def missing_files(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Those that are no files there."""
        return self._ask(tuple[str, ...], "missing_files", paths=list(paths))  # type: ignore[no-any-return]

    def has_bridge(self, name: str) -> bool:
        """Whether it has a bridge of that name."""
        return self._ask(bool, "has_bridge", name=name)  # type: ignore[no-any-return]

    def carried(self) -> tuple[str, ...]:
        """The guest groups that it carries."""
        return self._ask(tuple[str, ...], "carried")  # type: ignore[no-any-return]

    def ring(self) -> None:
        """Wake its supervisor."""
        self._session.ask("ring")

    def start(self, name: str) -> None:
        """Have it start a guest whose lock this session holds. Raises GuestError, HeldError too."""
        self._session.ask("start", START_LIMIT, name=name)

    def clear_transit(self, name: str) -> None:
        """Have it remove what a live migration has left half-made of a guest whose lock this session holds."""
        self._session.ask("clear_transit", CHANGE_LIMIT, name=name)

    def _ask(self, hint: Any, what: str, /, **args: Any) -> Any:
        return wire.typed(hint, self._session.ask(what, **args), self._session.peer)
