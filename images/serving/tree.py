"""What `invoke build-image --formats netboot` has made: the files that any machine may load."""

from __future__ import annotations

from pathlib import Path

from config.payload import IMAGE, INDEX, SIGNATURE, PayloadError, parse_index
from images.serving.errors import ServeError

LOADERS = {0: "undionly.kpxe", 7: "snponly.efi", 9: "snponly.efi"}
"""iPXE by the client's architecture (RFC 4578, section 2.1, and its errata 4625): BIOS, and UEFI on x86-64 by both
numbers that firmware gives it."""
IMAGE_DIRECTORY = "image"
BOOT = ("vmlinuz", "initrd.img", "installer.img", *sorted(set(LOADERS.values())))
FILES = (*BOOT, *(f"{IMAGE_DIRECTORY}/{name}" for name in (INDEX, SIGNATURE, IMAGE)))


def check_tree(tree: Path) -> None:
    """Raise ServeError unless all is there, and the image is as long as its index says."""
    made_by = f"`invoke build-image --formats netboot` makes it; name its netboot directory with --out, not {tree}"
    if missing := [name for name in FILES if not (tree / name).is_file()]:
        raise ServeError(f"{tree} is no netboot tree: it lacks {', '.join(missing)}", hint=made_by)
    index, image = tree / IMAGE_DIRECTORY / INDEX, tree / IMAGE_DIRECTORY / IMAGE
    try:
        wanted = parse_index(index.read_bytes(), str(index)).packed_size
    except PayloadError as e:
        raise ServeError(e.message, hint=made_by) from None
    if image.stat().st_size != wanted:
        raise ServeError(f"{image} has {image.stat().st_size} bytes, and its index says {wanted}", hint=made_by)
