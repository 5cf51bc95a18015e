"""From a checked config to a bootable disk image, its package, its manifest and the seed medium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config import secrets
from config.carried import check_files
from config.door import write_file
from config.findings import ConfigError
from config.loader import Loaded
from config.model import Cluster
from images import manifest, namespace, preflight
from images.cache import Cache, locked
from images.deb import firstboot_package
from images.disklayer import NAME, Format, Inputs, Order, make_artifacts
from images.manifest import Manifest
from images.preseed import write_preseed
from images.progress import Progress
from images.rootfs import rootfs_layer
from images.seed import TEMPORARY_PREFIX, write_seed

SEED = "seed.img"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Artifacts:
    """What stands in the out directory; a format that was not asked for is None. built: whether the disk is new."""

    qcow2: Path | None
    raw: Path | None
    seed: Path
    deb: Path
    manifest: Path
    built: bool


def build_image(loaded: Loaded, out: Path, formats: Sequence[Format], *, cache: Path, progress: Progress) -> Artifacts:
    """Build what is not there yet, and publish it in out: image, package, manifest.json, SHA256SUMS and seed.img.

    cache keeps the layers, and may be shared by builds that run at the same time. Whatever stops a build, no half file
    stands under a final name, and the next build clears away what it left. Raises BuildError, and ConfigError where a
    file that the config names is not there.
    """
    cluster, store = loaded.cluster, Cache(cache)
    disks = [wanted for wanted in formats if wanted != "preseed"]
    preflight.check_tools()
    if faults := check_files(loaded):
        raise ConfigError(faults)
    with locked(out / ".lock", waiting=lambda: progress.note(f"another build writes to {out}; waiting for it")):
        _clear_leftovers(store, out, progress)
        inputs = Inputs.of(cluster)
        current = _current(inputs, out, disks)
        if current is None:
            preflight.check_namespaces()
            preflight.check_space(_space_needed(inputs, store, out))
            package = firstboot_package(inputs.package, store)
            base = rootfs_layer(inputs.rootfs, store, progress)
            order = Order(inputs, cluster.config_hash(), base, package, disks)
            made = make_artifacts(order, out / _PARTIAL, store, progress)
            _publish(made, out)
        else:
            made = _refresh(current, cluster, out, progress)
        for warning in made.warnings:
            progress.warning(warning)
        _write_seed(loaded, out, progress)
        if "preseed" in formats:
            write_preseed(loaded, firstboot_package(inputs.package, store), out, cache=store, progress=progress)
    return _artifacts(made, out, built=current is None)


def _clear_leftovers(store: Cache, out: Path, progress: Progress) -> None:
    partial = out / _PARTIAL
    if store.sweep() or partial.exists():
        progress.note("cleared away what an interrupted build had left")
    for leftover in (partial, *out.glob(f"{TEMPORARY_PREFIX}*")):
        namespace.remove_tree(leftover)


def _current(inputs: Inputs, out: Path, formats: Sequence[Format]) -> Manifest | None:
    """The manifest in out, if it tells of exactly what would be built, and its files are there with their sizes."""
    found = manifest.read(out)
    if found is None or found.key != inputs.key or not manifest.stands(found, out):
        return None
    return found if all(f"{NAME}.{wanted}" in found.artifacts for wanted in formats) else None


def _space_needed(inputs: Inputs, store: Cache, out: Path) -> list[tuple[Path, int]]:
    cached = store.layer("rootfs", inputs.rootfs.key).is_dir()
    first = [] if cached else [(store.root, preflight.ROOTFS_SPACE)]
    return [*first, (store.root, preflight.TREE_SPACE), (out, preflight.OUT_SPACE)]


def _publish(made: Manifest, out: Path) -> None:
    """Move the artifacts to their names. While that goes on there is no manifest, so no mixture passes for an image."""
    old = manifest.read(out)
    for name in (manifest.NAME, manifest.SUMS):
        (out / name).unlink(missing_ok=True)
    for name in old.artifacts if old else ():
        (out / name).unlink(missing_ok=True)
    for name in made.artifacts:
        (out / _PARTIAL / name).rename(out / name)
    (out / _PARTIAL).rmdir()
    _write_manifest(made, out)


def _write_manifest(made: Manifest, out: Path) -> None:
    write_file(out / manifest.NAME, made.to_json())
    write_file(out / manifest.SUMS, manifest.sums(made))


def _refresh(current: Manifest, cluster: Cluster, out: Path, progress: Progress) -> Manifest:
    """What an unchanged image still may need: the hash of a config that changed outside of it."""
    made = current.model_copy(update={"config_hash": cluster.config_hash()})
    if made == current:
        progress.note(f"nothing to do: {out} holds this very image (sizes checked; `sha256sum -c` checks the contents)")
    else:
        progress.note("the image stays as it is; the config changed in what nodes read from the seed medium")
        _write_manifest(made, out)
    return made


def _write_seed(loaded: Loaded, out: Path, progress: Progress) -> None:
    own_secrets = secrets.ensure(loaded.cluster, loaded.source.parent / "secrets")
    if write_seed(loaded.source, own_secrets.to_yaml(), out / SEED):
        progress.note(f"wrote the seed medium {out / SEED}: it holds the cluster's secrets")


def _artifacts(made: Manifest, out: Path, *, built: bool) -> Artifacts:
    paths = {Path(name).suffix: out / name for name in made.artifacts}
    return Artifacts(
        qcow2=paths.get(".qcow2"),
        raw=paths.get(".raw"),
        seed=out / SEED,
        deb=paths[".deb"],
        manifest=out / manifest.NAME,
        built=built,
    )
