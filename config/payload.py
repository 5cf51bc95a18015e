"""The payload of an installation: a disk image in pieces, each of which is proven before one byte of it is written.

Three files stand together, on the install medium as on the server:

    index.json      which piece goes where on the disk, and the sha256 of each
    index.json.sig  its signature (`ssh-keygen -Y sign`), by the key that `invoke build-image` made for this site
    image.zst       the pieces, one zstd frame each (RFC 8878), end to end: a plain zstd file, too

What no piece covers is zero on the disk. The first and the last MiB of the image hold the two copies of its partition
table (GPT), and the first boot sector: a disk that lacks them does not boot. So they are written last.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from config.errors import XenpairError

INDEX = "index.json"
SIGNATURE = "index.json.sig"
IMAGE = "image.zst"
SIGNATURE_NAMESPACE = "xenpair-image"
"""What a signature is good for (ssh-keygen(1), -n): a signature of the same key for anything else is refused."""
SIGNER = "xenpair"
"""The principal that stands before the key in the installer's list of allowed signers (ssh-keygen(1))."""

EDGE = 1 << 20
"""Bytes at either end of the image that are withheld until all others are written and proven."""
ALIGNMENT = 4096
"""Bytes to which pieces are cut, so that they can be written past the page cache to a disk of 4-KiB sectors."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PayloadError(XenpairError):
    """An index that is none, or that contradicts itself."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Piece(_Record):
    """A stretch of the disk that is not all zero."""

    at: Annotated[int, Field(ge=0)]
    """Where it goes on the disk, bytes from the start."""
    size: Annotated[int, Field(gt=0)]
    """Bytes on the disk."""
    packed_at: Annotated[int, Field(ge=0)]
    """Where its zstd frame begins in image.zst."""
    packed_size: Annotated[int, Field(gt=0)]
    """Bytes of that frame."""
    sha256: Sha256
    """Of the frame, hex: it is proven before it is unpacked."""

    @property
    def end(self) -> int:
        """The first byte of the disk behind it."""
        return self.at + self.size


class Index(_Record):
    """The whole of index.json. Pieces stand in the order of the disk, and none overlaps another or an edge's border."""

    format: Literal[1] = 1
    key: str
    """Content key of the image, as in its manifest."""
    root_uuid: str
    """UUID of its root file system."""
    disk_size: Annotated[int, Field(ge=4 * EDGE)]
    """Bytes of the image: a disk has to have as many."""
    root_start: Annotated[int, Field(ge=EDGE)]
    """Where its last partition, the root file system, begins: bytes from the start of the disk."""
    pieces: Annotated[tuple[Piece, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        at = packed_at = 0
        for piece in self.pieces:
            if piece.at < at or piece.end > self.disk_size:
                raise ValueError(f"the piece at {piece.at} is out of order, or beyond the disk")
            if piece.at % ALIGNMENT or piece.size % ALIGNMENT:
                raise ValueError(f"the piece at {piece.at} is not cut to {ALIGNMENT} bytes")
            if piece.packed_at != packed_at:
                raise ValueError(f"the frame of the piece at {piece.at} does not follow the one before it")
            if any(piece.at < border < piece.end for border in self._borders()):
                raise ValueError(f"the piece at {piece.at} goes across what is to be written last")
            at, packed_at = piece.end, piece.packed_at + piece.packed_size
        if self.disk_size % ALIGNMENT:
            raise ValueError(f"the disk is not cut to {ALIGNMENT} bytes")
        return self

    def _borders(self) -> tuple[int, int]:
        return EDGE, self.disk_size - EDGE

    def is_withheld(self, piece: Piece) -> bool:
        """Whether the piece makes the disk bootable, and so comes last."""
        first, last = self._borders()
        return piece.at < first or piece.at >= last

    def holes(self) -> Iterator[tuple[int, int]]:
        """Offset and length of each stretch that no piece covers, and that is to be zero."""
        ends = [0, *(piece.end for piece in self.pieces)]
        begins = [*(piece.at for piece in self.pieces), self.disk_size]
        return ((end, begin - end) for end, begin in zip(ends, begins, strict=True) if begin > end)

    @property
    def packed_size(self) -> int:
        """Bytes of image.zst."""
        return sum(piece.packed_size for piece in self.pieces)

    @property
    def written_size(self) -> int:
        """Bytes of all pieces on the disk."""
        return sum(piece.size for piece in self.pieces)

    def to_json(self) -> str:
        """The same text for the same content."""
        return self.model_dump_json() + "\n"


def cuts(disk_size: int, longest: int) -> Iterator[tuple[int, int]]:
    """Offset and length of the stretches that pieces are made of: none longer than that, none across a border."""
    borders = sorted({*range(0, disk_size, longest), EDGE, disk_size - EDGE, disk_size})
    return ((at, end - at) for at, end in itertools.pairwise(borders))


def parse_index(content: bytes | str, where: str) -> Index:
    """The index in that text. Raises PayloadError, naming where it stands."""
    try:
        return Index.model_validate_json(content)
    except ValidationError as e:
        error = e.errors()[0]
        place = ".".join(map(str, error["loc"]))
        raise PayloadError(f"{where} is no index of a payload: {place + ': ' if place else ''}{error['msg']}") from e
