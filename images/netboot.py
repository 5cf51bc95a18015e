"""out/netboot/: all that an installation over the network needs, without a secret. The ISO is made of the same files.

Index and image come with the disk. What boots before them, and the signature, can change without the disk, by our code
or by the key: then they alone are made again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.payload import IMAGE, INDEX, SIGNATURE
from images import loaders, manifest, preflight
from images.cache import Cache
from images.disklayer import LOADERS, PAYLOAD, TREE
from images.installer import BOOTED, Request, installer_layer, write_installer
from images.manifest import Artifact, Manifest
from images.progress import Progress
from images.rootfs import Rootfs
from images.signing import SigningKey

IPXE = {f"{TREE}/{path.name}": path for path in preflight.IPXE}


def has_payload(found: Manifest) -> bool:
    """Whether index and image are among the artifacts."""
    return {f"{PAYLOAD}/{name}" for name in (INDEX, IMAGE)} <= found.artifacts.keys()


def has_ipxe(found: Manifest) -> bool:
    """Whether a machine can boot from the tree over the network."""
    return IPXE.keys() <= found.artifacts.keys()


@dataclass(frozen=True)
class Tree:
    """The tree of a build: what stands in out, and in partial what is to take its place. Each step returns the manifest
    with what it has made, and makes nothing that is there already.
    """

    out: Path
    partial: Path

    def with_signature(self, made: Manifest, key: SigningKey) -> Manifest:
        """The index, signed."""
        index = f"{PAYLOAD}/{INDEX}"
        signature = key.sign(self._latest(index).read_text()).encode()
        artifact = Artifact(size=len(signature), sha256=hashlib.sha256(signature).hexdigest())
        name = f"{PAYLOAD}/{SIGNATURE}"
        if made.artifacts.get(name) != artifact:
            self._new(name).write_bytes(signature)
        return _with(made, {name: artifact})

    def with_ipxe(self, made: Manifest) -> Manifest:
        """iPXE, as the build host has it."""
        artifacts = {name: manifest.measure(path) for name, path in IPXE.items()}
        for name, artifact in artifacts.items():
            if made.artifacts.get(name) != artifact:
                shutil.copyfile(IPXE[name], self._new(name))
        return _with(made, artifacts)

    def with_installer(
        self, made: Manifest, request: Request, base: Callable[[], Rootfs], cache: Cache, progress: Progress
    ) -> Manifest:
        """Kernel, initramfs, installer.img; and the boot loaders of the ISO, which look for a medium of that date."""
        if made.installer == request.key:
            return made
        rootfs = base()
        layer = installer_layer(request, rootfs, cache, progress)
        files = [self._new(f"{TREE}/{name}") for name in BOOTED]
        with progress.stage("adding our code to the installer"):
            write_installer(request, rootfs, layer, files[-1], cache)
        files += [self._new(f"{LOADERS}/{name}") for name in loaders.ALL]
        for file in files:
            if not file.exists():
                shutil.copyfile(layer / file.name, file)
        artifacts = {str(file.relative_to(self.partial)): manifest.measure(file) for file in files}
        return _with(made, artifacts).model_copy(update={"installer": request.key, "medium_date": request.date})

    def _latest(self, name: str) -> Path:
        new = self.partial / name
        return new if new.exists() else self.out / name

    def _new(self, name: str) -> Path:
        new = self.partial / name
        new.parent.mkdir(parents=True, exist_ok=True)
        return new


def _with(made: Manifest, artifacts: dict[str, Artifact]) -> Manifest:
    return made.model_copy(update={"artifacts": {**made.artifacts, **artifacts}})
