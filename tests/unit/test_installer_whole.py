"""Whole installations from a medium onto files that stand for disks, and power cuts in the middle of them."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from config.door import run
from config.errors import XenpairError
from config.machine import Machine
from config.payload import EDGE, IMAGE, INDEX
from config.secrets import Secrets
from firstboot import mirrors, observe
from firstboot.installer import installation, mirror
from firstboot.installer.medium import Medium
from firstboot.installer.table import Table
from firstboot.installer.target import Target
from firstboot.installer.teller import Consoles, Teller
from firstboot.places import Places
from firstboot.plan.mirror import LINUX_RAID, Mirror
from firstboot.plan.system_disk import Install, InstallAgain, admission
from firstboot.probe.disks import BlockDevice
from firstboot.probe.marker import BLOCK, Marker, parse_marker
from tests.unit.conftest import EXAMPLE
from tests.unit.payload_rig import BOOT_CODE, MIB, ROOT_START, SIZE, Payload, make_payload, make_raw, shell, sign

DISK_SIZE = SIZE + 20 * MIB
MACHINE = Machine({"eth0": "52:54:00:10:32:01"})


class PowerCut(BaseException):
    """Nothing that was written after it is on the disk."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Payload:
    directory = tmp_path_factory.mktemp("made")
    (directory / "tree" / "etc").mkdir(parents=True)
    (directory / "tree" / "file").write_bytes(bytes(range(256)) * 4096)
    raw = make_raw(directory / "raw", directory / "tree")
    return make_payload(raw, directory / "xenpair", directory / "key")


@dataclass
class Bare:
    """A bare machine with a medium in it."""

    path: Path
    payload: Payload
    disks: list[BlockDevice]

    @property
    def said(self) -> list[str]:
        """By the last installation."""
        return [line.removeprefix("xenpair install: ") for line in (self.path / "console").read_text().splitlines()]

    @property
    def disk(self) -> Path:
        return self.path / "vda"

    @property
    def root(self) -> Path:
        return self.path / "scratch" / "root"

    def install(self) -> None:
        source = Medium(self.path / "medium", self.path / "seed")
        (self.path / "console").write_text("")
        teller = Teller(Consoles([self.path / "console"]))
        installation.install(source, teller, bench=False, signers=self.payload.signers)

    def boots(self) -> bool:
        with self.disk.open("rb") as f:
            first = f.read(BLOCK)
        return first[510:512] == b"\x55\xaa" or first[512:520] == b"EFI PART"

    def is_whole(self) -> bool:
        """All of the image is there, the table fits the disk, and nothing stale is at its end."""
        content, raw = self.disk.read_bytes(), self.payload.raw
        table = 34 * 512
        return (
            self.boots()
            and content.startswith(BOOT_CODE)
            and content[table : SIZE - EDGE] == raw[table : SIZE - EDGE]
            and not any(content[SIZE - EDGE : SIZE])
            and not any(content[-8 * MIB : -33 * 512])
            and content[-512:-504] == b"EFI PART"
        )


@pytest.fixture
def bare(made: Payload, tmp_path: Path, real_programs: None, monkeypatch: pytest.MonkeyPatch) -> Bare:
    shutil.copytree(made.directory, tmp_path / "medium" / "xenpair")
    (tmp_path / "seed").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "seed" / "cluster.yaml")
    secrets = Secrets(authkeys="ab" * 32, drbd="cd" * 24, join="ef" * 32)
    (tmp_path / "seed" / "secrets.yaml").write_text(secrets.to_yaml())
    found = Bare(tmp_path, replace(made, directory=tmp_path / "medium" / "xenpair"), [])
    with found.disk.open("wb") as f:
        f.truncate(DISK_SIZE)
    found.disks.append(BlockDevice(str(found.disk), "disk", DISK_SIZE, serial="system-xen1"))

    @contextlib.contextmanager
    def looped(file: Path, **_: object) -> Iterator[Path]:
        yield file

    @contextlib.contextmanager
    def mounted(_: Path, directory: Path, __: str) -> Iterator[Path]:
        assert not found.boots()
        directory.mkdir(parents=True, exist_ok=True)
        yield directory

    monkeypatch.setattr(installation, "looped", looped)
    monkeypatch.setattr(installation, "mounted", mounted)
    monkeypatch.setattr(installation, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(installation, "DISK_PATIENCE", 0)
    monkeypatch.setattr(observe, "settle", lambda _: None)
    monkeypatch.setattr(observe, "machine", lambda: MACHINE)
    monkeypatch.setattr(observe, "block_devices", lambda: tuple(found.disks))
    return found


def test_a_bare_machine_gets_its_system_and_its_seed(bare: Bare) -> None:
    bare.install()
    assert bare.is_whole()
    assert (bare.root / "etc/xenpair/secrets.yaml").stat().st_mode & 0o777 == 0o600
    assert (bare.root / "etc/xenpair/cluster.yaml").read_text() == EXAMPLE.read_text()
    steps = [line.partition("] ")[2] for line in bare.said if "] " in line]
    names = ("identity", "disk", "image", "write", "hand-over")
    assert steps == [f"{name}: {what}" for name in names for what in ("begin", "done")]
    assert "this machine is xen1 of the cluster xenpair" in bare.said
    timed = [line.split()[1] for line in bare.said if line.startswith("timing: ")]
    assert timed == list(names)


def test_a_disk_of_just_the_size_is_filled(bare: Bare) -> None:
    with bare.disk.open("r+b") as f:
        f.truncate(SIZE)
    bare.disks[0] = replace(bare.disks[0], size=SIZE)
    bare.install()
    content = bare.disk.read_bytes()
    assert content[: SIZE - EDGE] == bare.payload.raw[: SIZE - EDGE]
    assert content[-512:-504] == b"EFI PART"


def test_what_the_config_allows_to_wipe_is_cleared_where_the_image_does_not_reach(bare: Bare) -> None:
    bare.disk.write_bytes(b"\xa5" * DISK_SIZE)
    shell("mkswap", bare.disk)
    config = bare.path / "seed" / "cluster.yaml"
    mac = 'match: {mac: "52:54:00:10:32:01"}'
    allowed = f"{mac}\n    disks: {{system: {{serial: system-xen1, wipe: true}}}}"
    config.write_text(EXAMPLE.read_text().replace(mac, allowed))
    bare.install()
    assert bare.is_whole()
    assert any("erasing" in line and "swap at byte" in line for line in bare.said)


def fails(bare: Bare, said: str, *, untouched: bool) -> None:
    before = bare.disk.read_bytes()
    with pytest.raises(XenpairError, match=said):
        bare.install()
    assert not bare.boots()
    assert (bare.disk.read_bytes() == before) is untouched
    assert not (bare.root / "etc/xenpair/secrets.yaml").exists()


def test_an_image_that_is_cut_off_is_refused_before_the_disk_is_touched(bare: Bare) -> None:
    bare.payload.image.write_bytes(bare.payload.frames()[:-1])
    fails(bare, f"image.zst is cut off: it has {bare.payload.index.packed_size - 1} bytes", untouched=True)


def test_one_flipped_bit_leaves_a_disk_that_does_not_boot(bare: Bare) -> None:
    frames = bytearray(bare.payload.frames())
    frames[-1] ^= 0x10
    bare.payload.image.write_bytes(frames)
    fails(bare, "image.zst is damaged: bytes", untouched=False)
    assert parse_marker(bare.disk.read_bytes()[:BLOCK]) == Marker("xenpair", "xen1", "0" * 32)


def test_a_signature_by_another_key_is_refused_before_the_disk_is_touched(bare: Bare) -> None:
    shell("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", bare.path / "other")
    sign(bare.payload.directory, bare.path / "other")
    fails(bare, "signed by the key SHA256:", untouched=True)


def test_a_changed_index_is_refused_before_the_disk_is_touched(bare: Bare) -> None:
    index = bare.payload.directory / INDEX
    index.write_text(index.read_text().replace('"root"', '"toor"'))
    fails(bare, "index.json is not what was signed", untouched=True)


@pytest.mark.parametrize("name", [IMAGE, INDEX, "index.json.sig"])
def test_a_medium_that_lacks_a_file_is_refused(bare: Bare, name: str) -> None:
    (bare.payload.directory / name).unlink()
    fails(bare, f"the medium has no xenpair/{name}", untouched=True)


def test_a_config_with_an_error_stops_it_with_the_line(bare: Bare) -> None:
    config = bare.path / "seed" / "cluster.yaml"
    config.write_text(config.read_text().replace("deadtime: 20", "deadtime: [20"))
    fails(bare, r"cluster.yaml:\d+: is not valid YAML", untouched=True)


def test_a_machine_that_the_config_does_not_name_is_shown(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "machine", lambda: Machine({"eth7": "aa:bb:cc:dd:ee:ff"}, "SN1"))
    fails(bare, "matches no node of the config", untouched=True)
    assert '    match: {mac: "aa:bb:cc:dd:ee:ff"}  # eth7' in bare.said
    assert any('{serial: "system-xen1"}' in line for line in bare.said)


def test_a_disk_that_is_too_small_is_refused(bare: Bare) -> None:
    bare.disks[0] = replace(bare.disks[0], size=SIZE - 4096)
    with bare.disk.open("r+b") as f:
        f.truncate(SIZE - 4096)
    fails(bare, "and the image needs 24M", untouched=True)


def test_two_disks_that_fit_are_refused(bare: Bare) -> None:
    bare.disks.append(replace(bare.disks[0], path="/dev/vdb", serial="system-2"))
    fails(bare, "fits 2 disks", untouched=True)


def test_a_disk_with_something_on_it_is_refused(bare: Bare) -> None:
    shell("mkswap", bare.disk)
    fails(bare, "is not blank: swap at byte 4086", untouched=True)


def test_a_finished_system_is_not_installed_over(bare: Bare) -> None:
    bare.install()
    before = bare.disk.read_bytes()
    with pytest.raises(XenpairError, match="is not blank: gpt at byte 512"):
        bare.install()
    assert bare.disk.read_bytes() == before


def cut_power(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """After so many writes; the next one is on the disk by half, or not at all where it is the first block."""
    write, count = Target.write, itertools.count()

    def until_then(target: Target, at: int, content: memoryview | bytes) -> None:
        number = next(count)
        if number < after:
            # Zeros, too, are written where a file stands for a disk.
            write(target, at, content)
            return
        if number == after and at:
            write(target, at, content[: len(content) // 2])
        raise PowerCut

    monkeypatch.setattr(Target, "write", until_then)


@pytest.mark.exhaustive
def test_no_power_cut_leaves_a_disk_that_boots_or_one_that_cannot_be_installed(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = 0
    decisions = set()
    while True:
        with bare.disk.open("wb") as f:
            f.truncate(DISK_SIZE)
        with monkeypatch.context() as patch:
            cut_power(patch, after)
            try:
                bare.install()
                break
            except PowerCut:
                pass
        assert not bare.boots()
        found = parse_marker(bare.disk.read_bytes()[:BLOCK])
        contents = observe.contents(bare.disks[0])
        decision = admission(bare.disks[0], contents, found, Marker("xenpair", "xen1", ""), wipe=False)
        decisions.add(type(decision))
        after += 1 if after < 3 else 7
    assert decisions == {Install, InstallAgain}
    assert after > 20


@pytest.mark.parametrize("after", [1, 12, 30])
def test_a_second_installation_after_a_power_cut_goes_through(
    bare: Bare, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with monkeypatch.context() as patch:
        cut_power(patch, after)
        with pytest.raises(PowerCut):
            bare.install()
    bare.install()
    assert bare.is_whole()


@dataclass
class Pair:
    """Two bare disks for a mirrored system, and what its mirror was made of."""

    bare: Bare
    made: list[Mirror]

    def contents(self) -> list[bytes]:
        return [Path(disk.path).read_bytes() for disk in self.bare.disks]

    def boots(self) -> list[bool]:
        return [content[510:512] == b"\x55\xaa" for content in self.contents()]


@pytest.fixture
def pair(bare: Bare, monkeypatch: pytest.MonkeyPatch) -> Pair:
    config = bare.path / "seed" / "cluster.yaml"
    config.write_text(EXAMPLE.read_text().replace('{serial: "system-*"}', '{raid1: true, serial: "system-*"}'))
    second = bare.path / "vdb"
    with second.open("wb") as f:
        f.truncate(DISK_SIZE + 8 * MIB)
    bare.disks.append(BlockDevice(str(second), "disk", DISK_SIZE + 8 * MIB, serial="system-xen1-b"))
    found = Pair(bare, [])

    @contextlib.contextmanager
    def mirrored_root(
        made: Mirror, disks: Sequence[BlockDevice], tables: Sequence[Table], root_start: int
    ) -> Iterator[Path]:
        assert not any(found.boots())
        for disk, table in zip(disks, tables, strict=True):
            assert root_start + table.root_size <= disk.size - 33 * 512
        found.made.append(made)
        yield Path("/dev/md/xenpair-system")

    monkeypatch.setattr(installation, "mirrored_root", mirrored_root)
    return found


def test_both_disks_of_a_mirrored_system_boot_and_have_identifiers_of_their_own(pair: Pair) -> None:
    pair.bare.install()
    assert pair.boots() == [True, True]
    one, other = pair.contents()
    raw = pair.bare.payload.raw
    for content in (one, other):
        assert content.startswith(BOOT_CODE)
        assert content[34 * 512 : SIZE - EDGE] == raw[34 * 512 : SIZE - EDGE]
    dumps = [run(["sfdisk", "--dump", disk.path]).stdout.lower() for disk in pair.bare.disks]
    uuids = [set(re.findall(r"(?:uuid=|label-id: )(\S{36})", dump)) for dump in dumps]
    assert not uuids[0] & uuids[1]
    assert all(dump.count(LINUX_RAID.lower()) == 1 for dump in dumps)
    (made,) = pair.made
    assert [half.serial for half in made.halves] == ["system-xen1", "system-xen1-b"]
    assert all(half.partuuid in uuid for half, uuid in zip(made.halves, uuids, strict=True))
    assert mirrors.read(Places(pair.bare.root).system_mirror) == made


def test_a_mirrored_system_needs_both_disks(pair: Pair) -> None:
    del pair.bare.disks[1]
    with pytest.raises(XenpairError, match=r"fits 1 disk .* exactly two, as it says raid1"):
        pair.bare.install()
    assert not pair.bare.boots()


def test_where_one_disk_of_two_is_not_blank_neither_is_written_to(pair: Pair) -> None:
    shell("mkswap", Path(pair.bare.disks[1].path))
    before = pair.contents()
    with pytest.raises(XenpairError, match=r"serial system-xen1-b. is not blank: swap"):
        pair.bare.install()
    assert pair.contents() == before


def test_a_disk_without_room_for_the_superblock_is_no_half(pair: Pair) -> None:
    with pair.bare.disk.open("r+b") as f:
        f.truncate(SIZE)
    pair.bare.disks[0] = replace(pair.bare.disks[0], size=SIZE)
    with pytest.raises(XenpairError, match="and the image needs"):
        pair.bare.install()


@pytest.mark.parametrize("after", [2, 12, 40, 60])
def test_a_mirrored_system_is_installed_again_after_a_power_cut(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with monkeypatch.context() as patch:
        cut_power(patch, after)
        with pytest.raises(PowerCut):
            pair.bare.install()
    assert not any(pair.boots())
    pair.bare.install()
    assert pair.boots() == [True, True]


def test_what_the_initramfs_made_of_a_disk_is_stopped_before_it_is_wiped(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[list[str]] = []
    monkeypatch.setattr(mirror, "run", lambda argv: stopped.append([str(word) for word in argv]))
    monkeypatch.setattr(observe, "holders", lambda name: ("md127", "dm-0") if name == "vda3" else ())
    part = BlockDevice("/dev/vda3", "part", MIB, fstype="linux_raid_member")
    mirror.release(replace(bare.disks[0], children=(part,)))
    assert stopped == [["mdadm", "--stop", "/dev/md127"]]


def test_the_root_file_system_begins_where_the_index_says(bare: Bare) -> None:
    bare.install()
    content = bare.disk.read_bytes()
    assert content[ROOT_START + 1080 : ROOT_START + 1082] == b"\x53\xef"
