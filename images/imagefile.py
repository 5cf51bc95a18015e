"""What qemu-img says of an image file, and the image as the raw bytes of a disk."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from config.door import run

_TIMEOUT = 1800.0


class ImageInfo(BaseModel):
    """What `qemu-img info` says of an image. virtual_size: bytes that a machine sees of it."""

    virtual_size: int = Field(alias="virtual-size")
    format: str


def info(image: Path) -> ImageInfo:
    """Size and format of an image. Raises CommandError when it is none."""
    return ImageInfo.model_validate_json(run(["qemu-img", "info", "-U", "--output=json", image]).stdout)


def convert_to_raw(image: Path, source_format: str, raw: Path) -> None:
    """Write a sparse raw image of an image of that format. Raises CommandError."""
    run(["qemu-img", "convert", "-U", "-f", source_format, "-O", "raw", image, raw], timeout=_TIMEOUT)
