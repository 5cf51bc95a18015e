"""What the bytes at the two ends of a disk say, on what the real tools have written there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from firstboot.errors import BackingDiskError
from firstboot.plan import backing
from firstboot.probe.disks import EDGE, Contents, Edges, edge_ranges, parse_edges, parse_lsblk
from tests.unit.test_firstboot_backing import DISK, GPT, OTHER, SIZE, decide


def read_od(path: Path) -> bytearray:
    """The bytes that `od -A d -t x1` printed."""
    image, last = bytearray(), bytes(16)
    repeated = False
    for line in path.read_text().splitlines():
        if line == "*":
            repeated = True
            continue
        words = line.split()
        if repeated:
            image += last * ((int(words[0]) - len(image)) // 16)
            repeated = False
        last = bytes.fromhex("".join(words[1:]))
        image += last
    return image


def edges_of(image: bytearray) -> Edges:
    return parse_edges("vdb", {at: bytes(image[at : at + n]) for at, n in edge_ranges(len(image))})


def test_an_old_pairs_disk_is_read_from_its_bytes(captured: Path) -> None:
    edges = edges_of(read_od(captured / "od-old-pair.txt"))
    assert edges.names == (OTHER,)
    assert {(s.kind, s.offset) for s in edges.remains} == {
        ("gpt", 512),
        ("LVM2_member", (1 << 20) + 512),
        ("drbd", 66056252),
    }
    assert edges.beyond_table(64 << 20)


def test_what_a_partition_that_is_gone_has_left_is_refused(captured: Path) -> None:
    image = read_od(captured / "od-old-pair.txt")
    image[: 1 << 20] = bytes(1 << 20)
    image[-(1 << 20) :] = bytes(1 << 20)
    small = replace(DISK, size=len(image))
    with pytest.raises(
        BackingDiskError, match=r"LVM2_member at byte 1049088 of vdb, left.*drbd at byte 66056252 of vd"
    ):
        decide(small, Contents(edges=edges_of(image)))


def test_a_signature_is_not_told_twice(captured: Path) -> None:
    edges = edges_of(read_od(captured / "od-old-pair.txt"))
    found = backing.findings(DISK, Contents((GPT,), edges))
    assert sum("gpt" in words for words in found) == 1


@pytest.mark.parametrize("size", [1 << 20, 2 * EDGE, 2 * EDGE + 512, SIZE])
def test_both_ends_are_looked_at_and_nothing_beyond(size: int) -> None:
    ranges = edge_ranges(size)
    assert ranges[0][0] == 0
    assert ranges[-1][0] + ranges[-1][1] == size
    assert sum(length for _, length in ranges) == min(size, 2 * EDGE)


@pytest.mark.parametrize("at", [0, 1, 4095, 4096, 65535])
def test_one_bit_anywhere_is_seen(at: int) -> None:
    piece = bytearray(65536)
    assert parse_edges("vdb", {0: bytes(piece)}) == Edges()
    piece[at] = 1
    assert parse_edges("vdb", {1 << 30: bytes(piece)}).data == ((1 << 30) + at // 4096 * 4096,)


def test_lsblk_tells_how_a_disk_is_attached(captured: Path) -> None:
    devices = {device.path: device for device in parse_lsblk((captured / "lsblk-columns.json").read_text())}
    assert (devices["/dev/vda"].transport, devices["/dev/vda"].removable) == ("virtio", False)
    stick = parse_lsblk((captured / "lsblk-columns.json").read_text().replace('"rm": false', '"rm": true'))
    assert stick[1].removable
