"""One volume group that two nodes see, without LVM. Each node's kernel maps volumes for itself, as they were then."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from firstboot.brief import Brief
from firstboot.guests.definition import Definition, from_tags, to_tags
from firstboot.guests.pair import Pair
from firstboot.guests.peer import Server
from firstboot.guests.side import LocalSide
from tests.unit import guests_rig as rig
from tests.unit.guests_rig import XEN1

MIB = 1 << 20
WEB01 = Definition(
    "web01", "xen1", 512 * MIB, 1, "pvh", "xenbr0", "02:00:00:00:00:01", options=(("tsc_mode", "native"),)
)
CHANGES = ("lvcreate", "lvextend", "lvremove", "lvchange")


class PowerCut(BaseException):
    """The owner ends here: nothing in the program may catch it."""


@dataclass
class FakeVolume:
    size: int
    tags: list[str]


@dataclass
class FakeGroup:
    """A volume group that two nodes see. active: by node, the size of each volume that its kernel maps."""

    size: int = 100 * MIB
    node: str = "xen1"
    seqno: int = 1
    volumes: dict[str, FakeVolume] = field(default_factory=dict)
    active: dict[str, dict[str, int]] = field(default_factory=lambda: {"xen1": {}, "xen2": {}})
    programs: list[tuple[str, str]] = field(default_factory=list)
    """Node, and what was run there."""
    lag: int = 0
    """Changes that xen2 does not see."""
    busy: set[tuple[str, str]] = field(default_factory=set)
    """Node and volume that is in use there."""
    cut_at: int = 0
    unflushed: bool = False
    """What was changed last would be gone with the power."""
    before: Callable[[str], None] = lambda _: None

    @property
    def free(self) -> int:
        return self.size - sum(volume.size for volume in self.volumes.values())

    @property
    def changes(self) -> list[str]:
        """The commands that changed metadata, by their real names."""
        return [words for _, words in self.programs if words.startswith("/usr/sbin/")]

    def program(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.programs.append((self.node, " ".join(argv)))
        self.before(" ".join(argv))
        if len(self.programs) == self.cut_at:
            raise PowerCut
        name = Path(argv[0]).name
        if name in ("vgs", "lvs"):
            return 0, json.dumps({"report": [self._vgs() if name == "vgs" else self._lvs()]}), ""
        if name == "lvchange" and argv[1] in ("--activate", "--refresh"):
            assert argv[0] == "lvchange"
            return self._map(argv[1:-1], argv[-1].removeprefix("data/"))
        if name == "findmnt":
            return 1, "", ""
        if argv == ["sync", "/dev/drbd0"]:
            self.unflushed = False
            return 0, "", ""
        assert argv[0] == f"/usr/sbin/{name}", "the guard stands before it"
        assert name in CHANGES
        self.seqno += 1
        self.unflushed = True
        return getattr(self, f"_{name}")(list(argv[1:]))  # type: ignore[no-any-return]

    def _vgs(self) -> dict[str, Any]:
        seqno = self.seqno - (self.lag if self.node == "xen2" else 0)
        row = {"vg_name": "data", "vg_uuid": "u", "vg_seqno": str(seqno), "vg_size": str(self.size)}
        return {"vg": [{**row, "vg_free": str(self.free), "pv_name": "/dev/drbd0"}]}

    def _lvs(self) -> dict[str, Any]:
        return {
            "lv": [
                {"lv_name": name, "lv_uuid": f"u-{name}", "lv_size": str(v.size), "lv_tags": ",".join(v.tags)}
                for name, v in self.volumes.items()
            ]
        }

    def _map(self, words: Sequence[str], name: str) -> tuple[int, str, str]:
        if name not in self.volumes:
            return 5, "", f'  Failed to find logical volume "data/{name}"\n'
        if (self.node, name) in self.busy:
            return 5, "", f"  Logical volume data/{name} in use.\n"
        mapped = self.active[self.node]
        if words[-1] == "n":
            mapped.pop(name, None)
        else:
            assert words[-1] == "y" or name in mapped, "refreshed, and not active"
            mapped[name] = self.volumes[name].size
        return 0, "", ""

    def _lvcreate(self, words: list[str]) -> tuple[int, str, str]:
        name, size = words[words.index("--name") + 1], words[words.index("--size") + 1]
        assert name not in self.volumes
        assert {"--yes", "--wipesignatures", "--zero"} <= set(words)
        tags = [word for option, word in pairwise(words) if option == "--addtag"]
        self.volumes[name] = FakeVolume(int(size.removesuffix("b")), tags)
        assert self.free >= 0
        self.active[self.node][name] = self.volumes[name].size
        return 0, "", ""

    def _lvextend(self, words: list[str]) -> tuple[int, str, str]:
        volume = self.volumes[words[-1].removeprefix("data/")]
        size = int(words[words.index("--size") + 1].removesuffix("b"))
        assert size > volume.size
        volume.size = self.active[self.node][words[-1].removeprefix("data/")] = size
        return 0, "", ""

    def _lvremove(self, words: list[str]) -> tuple[int, str, str]:
        name = words[-1].removeprefix("data/")
        assert not any(name in mapped for mapped in self.active.values()), "removed while a kernel maps it"
        del self.volumes[name]
        return 0, "", ""

    def _lvchange(self, words: list[str]) -> tuple[int, str, str]:
        volume = self.volumes[words[-1].removeprefix("data/")]
        for option, tag in zip(words[:-1:2], words[1:-1:2], strict=True):
            if option == "--addtag":
                volume.tags.append(tag)
            else:
                volume.tags.remove(tag)
        return 0, "", ""


def install(group: FakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program ends there from now on."""

    class Popen:
        pid = -1

        def __init__(self, argv: Sequence[str], **_: object) -> None:
            self.returncode, *self._said = group.program(argv)

        def communicate(self, *_: object, **__: object) -> list[str]:
            return self._said

    monkeypatch.setattr("config.door.subprocess.Popen", Popen)
    monkeypatch.setattr("config.door.kill_group", lambda *_: None)


@contextmanager
def on(group: FakeGroup, directory: Path, brief: Brief = XEN1) -> Iterator[Pair]:
    """A pair as that node has it; the peer's server runs in this process."""

    @contextmanager
    def there() -> Iterator[None]:
        group.node, back = brief.peer, group.node
        try:
            yield
        finally:
            group.node = back

    def connect(_: Brief) -> Any:
        own = rig.other(brief)
        place = rig.places(directory, own)
        return rig.InProcess(Server(place, own, LocalSide(own, place)), brief.peer, there)

    group.node = brief.node
    with Pair(brief, rig.places(directory, brief), connect=connect) as pair:
        yield pair


def made(group: FakeGroup, definition: Definition = WEB01, size: int = 8 * MIB) -> FakeGroup:
    """With that guest, on both nodes."""
    group.volumes[definition.name] = FakeVolume(size, list(to_tags(definition)))
    for mapped in group.active.values():
        mapped[definition.name] = size
    return group


def noted(group: FakeGroup, name: str = "web01") -> Definition | None:
    return from_tags(name, group.volumes[name].tags) if name in group.volumes else None
