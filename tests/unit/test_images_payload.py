"""The payload that is packed from a disk image puts the same image on another disk."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from config.payload import ALIGNMENT, EDGE, IMAGE, INDEX, Index, parse_index
from images import payload

SIZE = 16 << 20
ROOT_START = 2 << 20
BEGINNING, MIDDLE, ZEROS, END = 0, (5 << 20) + 12345, 9 << 20, SIZE - 512


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A sparse disk: data at both ends and in the middle, and zeros that were really written."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as f:
        f.truncate(SIZE)
        for at, data in ((BEGINNING, b"boot"), (MIDDLE, b"data" * 2000), (ZEROS, bytes(1 << 20)), (END, b"table")):
            f.seek(at)
            f.write(data)
    return path


def packed(raw: Path, directory: Path) -> Index:
    directory.mkdir()
    return payload.pack(raw, directory, key="k", root_uuid="u", root_start=ROOT_START)


def test_what_the_pieces_say_is_the_image_again(raw: Path, tmp_path: Path) -> None:
    index, image = packed(raw, tmp_path / "payload"), (tmp_path / "payload" / IMAGE).read_bytes()
    disk = bytearray(SIZE)
    for piece in index.pieces:
        frame = image[piece.packed_at : piece.packed_at + piece.packed_size]
        assert hashlib.sha256(frame).hexdigest() == piece.sha256
        disk[piece.at : piece.end] = zstandard.ZstdDecompressor().decompress(frame)
    assert bytes(disk) == raw.read_bytes()
    assert index.packed_size == len(image)


def test_what_is_all_zero_is_left_out_whether_it_was_written_or_not(raw: Path, tmp_path: Path) -> None:
    index = packed(raw, tmp_path / "payload")
    assert [piece.at for piece in index.pieces] == [0, 4 << 20, SIZE - EDGE]
    assert any(at <= ZEROS and at + length >= ZEROS + (1 << 20) for at, length in index.holes())


def test_the_ends_of_the_disk_are_pieces_of_their_own(raw: Path, tmp_path: Path) -> None:
    index = packed(raw, tmp_path / "payload")
    assert [index.is_withheld(piece) for piece in index.pieces] == [True, False, True]
    assert not any(piece.at % ALIGNMENT or piece.size % ALIGNMENT for piece in index.pieces)


def test_the_index_is_written_as_the_installer_reads_it(raw: Path, tmp_path: Path) -> None:
    index = packed(raw, tmp_path / "payload")
    assert parse_index((tmp_path / "payload" / INDEX).read_bytes(), INDEX) == index
    assert (index.key, index.root_uuid, index.root_start, index.disk_size) == ("k", "u", ROOT_START, SIZE)


def test_the_same_image_always_gives_the_same_payload(raw: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        packed(raw, tmp_path / name)
    for file in (INDEX, IMAGE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_many_pieces_come_in_the_order_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "LONGEST", 64 << 10)
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"".join(bytes([1 + number % 255]) * (64 << 10) for number in range(SIZE >> 16)))
    index = packed(raw, tmp_path / "payload")
    assert len(index.pieces) == SIZE >> 16
    data = zstandard.ZstdDecompressor().stream_reader(
        (tmp_path / "payload" / IMAGE).read_bytes(), read_across_frames=True
    )
    assert data.read() == raw.read_bytes()


def test_the_packed_image_is_a_plain_zstd_file(real_programs: None, raw: Path, tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    index = packed(raw, tmp_path / "payload")
    done = subprocess.run(["zstd", "-dc", tmp_path / "payload" / IMAGE], capture_output=True, check=True)
    assert len(done.stdout) == index.written_size
