"""The image on its way to the disk, with the real zstd and files that stand for disks."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.payload import EDGE
from firstboot.errors import ImageError
from firstboot.installer.stream import pour
from firstboot.installer.target import Target, opened
from tests.unit.payload_rig import BOOT_CODE, MIB, SIZE, Payload, make_payload, make_raw


def unheard(_: int) -> None:
    """Nobody looks at the progress."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("raw")
    tree = directory / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(range(256)) * 4096)
    return make_raw(directory / "image", tree)


@pytest.fixture(scope="module")
def payload(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> Payload:
    directory = tmp_path_factory.mktemp("payload")
    return make_payload(raw, directory / "image", directory / "key")


def old_disk(path: Path, size: int = SIZE) -> Path:
    """A disk full of what is to go."""
    path.write_bytes(b"\xff" * size)
    return path


def poured(payload: Payload, frames: bytes, disk: Path) -> dict[int, bytes]:
    with opened(disk) as target:
        return pour(payload.index, io.BytesIO(frames), target, unheard)


def test_all_but_the_edges_is_on_the_disk_and_holes_are_zero(
    payload: Payload, tmp_path: Path, real_programs: None
) -> None:
    disk = old_disk(tmp_path / "disk")
    withheld = poured(payload, payload.frames(), disk)
    found = disk.read_bytes()
    assert found[EDGE:-EDGE] == payload.raw[EDGE:-EDGE]
    assert found[:EDGE] + found[-EDGE:] == b"\xff" * 2 * EDGE
    assert withheld == {0: payload.raw[:EDGE], SIZE - EDGE: payload.raw[-EDGE:]}
    assert withheld[0].startswith(BOOT_CODE)


def test_progress_counts_what_is_written(payload: Payload, tmp_path: Path, real_programs: None) -> None:
    said: list[int] = []
    with opened(old_disk(tmp_path / "disk")) as target:
        pour(payload.index, io.BytesIO(payload.frames()), target, said.append)
    assert said == sorted(said)
    assert said[-1] == payload.index.written_size


def test_an_image_that_is_cut_off_is_told_with_the_place(payload: Payload, tmp_path: Path, real_programs: None) -> None:
    piece = payload.index.pieces[2]
    frames = payload.frames()[: piece.packed_at + 5]
    with pytest.raises(ImageError, match=rf"cut off: it ends at byte {len(frames)}, in the piece for byte {piece.at} "):
        poured(payload, frames, old_disk(tmp_path / "disk"))


@pytest.mark.parametrize("number", [0, 1, -1])
def test_one_flipped_bit_is_found_before_it_is_unpacked(
    payload: Payload, tmp_path: Path, real_programs: None, number: int
) -> None:
    piece = payload.index.pieces[number]
    frames = bytearray(payload.frames())
    frames[piece.packed_at + piece.packed_size // 2] ^= 1
    disk = old_disk(tmp_path / "disk")
    with pytest.raises(ImageError, match=rf"damaged: bytes {piece.packed_at} to .* the piece for byte {piece.at} of"):
        poured(payload, bytes(frames), disk)
    assert disk.read_bytes()[piece.at : piece.at + piece.size] == b"\xff" * piece.size


@pytest.mark.parametrize(
    ("compress", "said"),
    [
        ("cat", "Unknown frame descriptor"),
        ("head -c 4096 | zstd -c", "has 4096 bytes, and its index says 1048576"),
        ("(cat; echo more) | zstd -c", "Destination buffer is too small"),
        ("zstd -c | head -c 20", "Src size is incorrect"),
    ],
)
def test_a_frame_that_does_not_unpack_to_its_piece_is_told(
    raw: bytes, tmp_path: Path, real_programs: None, compress: str, said: str
) -> None:
    payload = make_payload(raw, tmp_path / "image", tmp_path / "key", compress=("sh", "-c", compress))
    with pytest.raises(ImageError, match=f"cannot be unpacked: the piece for byte 0.* {said}"):
        poured(payload, payload.frames(), old_disk(tmp_path / "disk"))


@pytest.mark.parametrize("what", ["write", "zero", "flush"])
def test_a_disk_that_fails_stops_it(
    payload: Payload, tmp_path: Path, real_programs: None, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Target, what, broken)
    with pytest.raises(OSError, match="Input/output error"):
        poured(payload, payload.frames(), old_disk(tmp_path / "disk"))


class Slow(io.BytesIO):
    """A source that does not answer any more after its first bytes."""

    def __init__(self, content: bytes, closed: Callable[[], None]) -> None:
        super().__init__(content)
        self._closed = closed

    def close(self) -> None:
        self._closed()
        super().close()


def test_the_source_is_closed_whatever_happens(payload: Payload, tmp_path: Path, real_programs: None) -> None:
    closed: list[float] = []
    source = Slow(b"", lambda: closed.append(time.monotonic()))
    with opened(old_disk(tmp_path / "disk")) as target, pytest.raises(ImageError, match="it ends at byte 0"):
        pour(payload.index, source, target, unheard)
    assert closed


def test_a_larger_disk_keeps_what_is_behind_the_image(payload: Payload, tmp_path: Path, real_programs: None) -> None:
    disk = old_disk(tmp_path / "disk", SIZE + 2 * MIB)
    poured(payload, payload.frames(), disk)
    assert disk.read_bytes()[SIZE:] == b"\xff" * 2 * MIB
