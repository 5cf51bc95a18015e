"""Whether an image may be written, and the partition table that it gets: with the real ssh-keygen and sfdisk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from config.payload import INDEX, SIGNATURE
from firstboot.errors import ImageError
from firstboot.installer.proof import prove
from firstboot.installer.table import fitted
from tests.unit.payload_rig import BOOT_CODE, MIB, ROOT_START, SIZE, TABLE, shell, sign


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    directory = tmp_path / "image"
    directory.mkdir()
    (directory / INDEX).write_text('{"format": 1}\n')
    for name in ("ours", "other"):
        shell("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / name)
    (tmp_path / "signers").write_text(f'xenpair namespaces="xenpair-image" {(tmp_path / "ours.pub").read_text()}')
    sign(directory, tmp_path / "ours")
    return directory


def proven(directory: Path) -> None:
    index, signature = ((directory / name).read_bytes() for name in (INDEX, SIGNATURE))
    prove(index, signature, directory.parent / "scratch", signers=directory.parent / "signers")


def test_what_is_signed_by_a_key_that_is_trusted_is_proven(signed: Path, real_programs: None) -> None:
    proven(signed)


def test_a_signature_by_another_key_is_named_by_its_fingerprint(signed: Path, real_programs: None) -> None:
    sign(signed, signed.parent / "other")
    with pytest.raises(ImageError, match=r"signed by the key SHA256:\S{43}, which this installer does not trust"):
        proven(signed)


@pytest.mark.parametrize("content", [b'{"format": 2}\n', b'{"format": 1}\r\n', b"\xff"])
def test_an_index_that_was_changed_is_told(signed: Path, real_programs: None, content: bytes) -> None:
    (signed / INDEX).write_bytes(content)
    with pytest.raises(ImageError, match=r"index.json is not what was signed"):
        proven(signed)


def test_a_signature_that_is_none_is_told(signed: Path, real_programs: None) -> None:
    (signed / SIGNATURE).write_text("torn")
    with pytest.raises(ImageError, match=r"index.json.sig does not fit it"):
        proven(signed)


def test_a_signature_for_something_else_does_not_count(signed: Path, real_programs: None) -> None:
    (signed / SIGNATURE).unlink()
    shell("ssh-keygen", "-q", "-Y", "sign", "-f", signed.parent / "ours", "-n", "file", signed / INDEX)
    with pytest.raises(ImageError, match="not what was signed"):
        proven(signed)


@pytest.fixture
def head(tmp_path: Path) -> bytes:
    image = tmp_path / "image"
    with image.open("wb") as f:
        f.truncate(SIZE)
    shell("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image, stdin=TABLE)
    with image.open("r+b") as f:
        f.write(BOOT_CODE)
        f.seek(0)
        return f.read(MIB)


def table_of(first: bytes, last: bytes, size: int, path: Path) -> Any:
    with path.open("wb") as f:
        f.write(first)
        f.seek(size - MIB)
        f.write(last)
    verified = subprocess.run(["sfdisk", "--verify", path], capture_output=True, text=True, check=True)
    assert "No errors detected" in verified.stdout, verified
    printed = subprocess.run(["sfdisk", "--json", path], capture_output=True, text=True, check=True)
    assert printed.stderr == ""
    return json.loads(printed.stdout)["partitiontable"]


@pytest.mark.parametrize("more", [0, 4096, MIB, 100 * MIB + 512, 64 << 30])
def test_the_last_partition_reaches_to_the_end_of_the_disk(
    head: bytes, tmp_path: Path, real_programs: None, more: int
) -> None:
    size = SIZE + more
    table = fitted(head, ROOT_START, size, tmp_path)
    first, last = table.first, table.last
    table = table_of(first, last, size, tmp_path / "disk")
    _, root = table["partitions"]
    assert root["start"] * 512 == ROOT_START
    assert 0 < size - (root["start"] + root["size"]) * 512 < 2 * MIB
    assert (root["name"], table["id"]) == ("root", "588E0CD2-564E-A244-80A7-6F7831F60552")
    assert first.startswith(BOOT_CODE)
    assert first[510:512] == b"\x55\xaa"


def test_what_is_behind_the_table_stays(head: bytes, tmp_path: Path, real_programs: None) -> None:
    marked = head[: 512 << 10] + b"core" + head[(512 << 10) + 4 :]
    first = fitted(marked, ROOT_START, SIZE + MIB, tmp_path).first
    assert first[34 * 512 :] == marked[34 * 512 :]


def test_a_table_that_the_index_does_not_know_is_refused(head: bytes, tmp_path: Path, real_programs: None) -> None:
    with pytest.raises(ImageError, match=r"begin at 1048576, 2097152 bytes, and its index says .* begins at 4096"):
        fitted(head, 4096, SIZE, tmp_path)
