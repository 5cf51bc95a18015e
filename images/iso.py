"""The install medium: one ISO that boots by BIOS and UEFI, from a stick and from an optical drive, without a network.

It holds the cluster's config and secrets, so it is for its owner only. When one of them changes, it is put together
anew of the files in out/netboot/ and out/iso/, in seconds. What it was made of stands in its volume descriptor.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from config.door import run
from config.payload import IMAGE, INDEX, SIGNATURE
from images import loaders, preflight
from images.cache import content_key
from images.disklayer import LOADERS, NAME, PAYLOAD, TREE
from images.files import File, code, render
from images.installer import BOOTED, OPTIONS
from images.manifest import Manifest
from images.rootfs import TEMPLATES
from images.seed import SEED, read_seed

ISO = f"{NAME}.iso"
LABEL = "XENPAIR_INSTALL"
"""Volume label by which the installer finds its medium."""
TEMPORARY_PREFIX = ".iso-"

OUTSIDE = (f"{LOADERS}/{loaders.HYBRID}", f"{LOADERS}/{loaders.EFI}")
"""What stands on the medium outside its file system."""
_ELTORITO = f"/boot/grub/{loaders.ELTORITO}"
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
_BLOCK = 2048
_BLOCKS = slice(16 * _BLOCK + 80, 16 * _BLOCK + 84)
_APPLICATION = slice(16 * _BLOCK + 574, 16 * _BLOCK + 702)
"""Volume space size, and application identifier, in the primary volume descriptor (ECMA-119, 8.4.8 and 8.4.20)."""
_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Medium:
    """One ISO as it should be, at path: of the artifacts in out, which made tells of, and of a seed medium."""

    path: Path
    out: Path
    made: Manifest
    seed: Path

    @property
    def menu(self) -> str:
        """Its grub.cfg."""
        values = {"root_uuid": self.made.root_uuid, "options": f"{OPTIONS} xenpair.medium={LABEL}"}
        return render(File.read(TEMPLATES / "installer/grub.cfg.j2"), values).decode()

    @property
    def artifacts(self) -> dict[str, str]:
        """Path on the medium -> name of the artifact."""
        booted = {f"/boot/{name}": f"{TREE}/{name}" for name in BOOTED}
        payload = {f"/xenpair/{name}": f"{PAYLOAD}/{name}" for name in (INDEX, SIGNATURE, IMAGE)}
        return {**booted, **payload, _ELTORITO: f"{LOADERS}/{loaders.ELTORITO}"}

    @property
    def key(self) -> str:
        """Of all that goes into it."""
        seed = {name: hashlib.sha256(data).hexdigest() for name, data in read_seed(self.seed).items()}
        sums = {name: self.made.artifacts[name].sha256 for name in (*self.artifacts.values(), *OUTSIDE)}
        return content_key({"artifacts": sums, "seed": seed, "menu": self.menu, "code": code(["iso.py"])})


def write_iso(medium: Medium) -> bool:
    """Write the ISO, mode 0600, in one step; False, and nothing touched, where it is this very one already."""
    key, place = medium.key, medium.path.parent
    if _is_current(medium.path, key):
        return False
    size = sum(medium.made.artifacts[name].size for name in medium.artifacts.values())
    preflight.check_space([(place, size + medium.seed.stat().st_size)])
    # A directory of mkdtemp is 0700.
    with tempfile.TemporaryDirectory(dir=place, prefix=TEMPORARY_PREFIX) as directory:
        image, menu = Path(directory) / ISO, Path(directory) / "grub.cfg"
        menu.write_text(medium.menu)
        environment = {"SOURCE_DATE_EPOCH": str(medium.made.medium_date), "TZ": "UTC"}
        run(_argv(medium, key, menu, image), env=environment, timeout=_TIMEOUT)
        image.chmod(0o600)
        image.rename(medium.path)
    return True


def _is_current(image: Path, key: str) -> bool:
    if not image.is_file() or image.stat().st_mode & 0o777 != 0o600:
        return False
    with image.open("rb") as f:
        descriptor, size = os.pread(f.fileno(), _APPLICATION.stop, 0), os.fstat(f.fileno()).st_size
    whole = int.from_bytes(descriptor[_BLOCKS], "little") * _BLOCK == size
    return whole and descriptor[_APPLICATION].decode(errors="replace").strip() == _application(key)


def _application(key: str) -> str:
    return f"XENPAIR {key.upper()}"


def _argv(medium: Medium, key: str, menu: Path, image: Path) -> list[str | Path]:
    """xorrisofs(1). First partition: the file system itself; second one: GRUB's for UEFI. Both boot from a CD too.

    Dates and identifiers come from SOURCE_DATE_EPOCH.
    """
    sources = {path: medium.out / name for path, name in medium.artifacts.items()}
    sources |= {"/boot/grub/grub.cfg": menu, f"/xenpair/{SEED}": medium.seed}
    hybrid, efi = (medium.out / name for name in OUTSIDE)
    return [
        *("xorriso", "-as", "mkisofs", "-quiet", "-o", image),
        *("--set_all_file_dates", f"={medium.made.medium_date}"),
        *("-V", LABEL, "-A", _application(key), "-r", "-iso-level", "3", "-graft-points"),
        *("--grub2-mbr", hybrid, "-partition_offset", "16", "--mbr-force-bootable"),
        *("-append_partition", "2", _ESP, efi, "-appended_part_as_gpt"),
        *("-iso_mbr_part_type", _BASIC_DATA, "-c", "/boot/boot.cat"),
        *("-b", _ELTORITO, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info"),
        *("-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"),
        *(f"{name}={source}" for name, source in sources.items()),
    ]
