"""A small image with a real partition table and file system, and the payload that is made of it by the real tools."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from config.payload import IMAGE, INDEX, SIGNATURE, SIGNATURE_NAMESPACE, Index, Piece, cuts

MIB = 1 << 20
SIZE = 24 * MIB
ROOT_START = 2 * MIB
LONGEST = 2 * MIB
BOOT_CODE = b"\xeb\x63\x90 boot code of the image"
TABLE = f"""label: gpt
label-id: 588E0CD2-564E-A244-80A7-6F7831F60552
first-lba: 2048
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name="bios-boot"
start={ROOT_START // 512}, size={(SIZE - 3 * MIB) // 512}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name="root"
"""


@dataclass(frozen=True)
class Payload:
    """Where the three files lie, what they were made of, and who may sign."""

    directory: Path
    raw: bytes
    index: Index
    signers: Path

    @property
    def image(self) -> Path:
        """The pieces."""
        return self.directory / IMAGE

    def frames(self) -> bytes:
        """All of it."""
        return self.image.read_bytes()


def shell(*argv: str | Path, stdin: str | None = None) -> None:
    """Run a tool that has to succeed."""
    subprocess.run(list(map(str, argv)), input=stdin, check=True, capture_output=True, text=True)


def make_raw(path: Path, tree: Path) -> bytes:
    """A partitioned disk whose root file system holds that tree."""
    with path.open("wb") as f:
        f.truncate(SIZE)
    shell("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path, stdin=TABLE)
    extended = f"offset={ROOT_START},lazy_itable_init=1,nodiscard"
    size = f"{(SIZE - 3 * MIB) // 1024}k"
    shell("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", extended, "-d", tree, path, size)
    with path.open("r+b") as f:
        f.write(BOOT_CODE)
    return path.read_bytes()


def make_payload(raw: bytes, directory: Path, key: Path, *, compress: tuple[str, ...] = ("zstd", "-qc")) -> Payload:
    """The payload of an image, signed by a key that is made unless it is there."""
    directory.mkdir(parents=True)
    pieces, frames = [], b""
    for at, size in cuts(len(raw), LONGEST):
        content = raw[at : at + size]
        if not any(content):
            continue
        frame = subprocess.run(compress, input=content, check=True, capture_output=True).stdout
        total = hashlib.sha256(frame).hexdigest()
        pieces.append(Piece(at=at, size=size, packed_at=len(frames), packed_size=len(frame), sha256=total))
        frames += frame
    index = Index(key="0" * 32, root_uuid="root", disk_size=len(raw), root_start=ROOT_START, pieces=tuple(pieces))
    (directory / INDEX).write_text(index.to_json())
    (directory / IMAGE).write_bytes(frames)
    if not key.exists():
        shell("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
    sign(directory, key)
    signers = directory.parent / f"{directory.name}-signers"
    signers.write_text(f'xenpair namespaces="{SIGNATURE_NAMESPACE}" {key.with_suffix(".pub").read_text()}')
    return Payload(directory, raw, index, signers)


def sign(directory: Path, key: Path) -> None:
    """Sign the index as it is now."""
    (directory / SIGNATURE).unlink(missing_ok=True)
    shell("ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", SIGNATURE_NAMESPACE, directory / INDEX)
