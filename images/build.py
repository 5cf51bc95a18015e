"""From a checked config to a bootable disk image, its package, its manifest, the seed medium, and what installs it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from config import secrets
from config.carried import require_files
from config.debian_files import on_this_host
from config.door import write_file
from config.loader import Loaded
from images import gpg, installer, iso, lock, manifest, namespace, netboot, preflight, pruning, seed, signing
from images.cache import Cache
from images.deb import firstboot_package
from images.disklayer import NAME, TREE, Format, Inputs, Order, make_artifacts
from images.installed import installed_layer
from images.iso import ISO, Medium, write_iso
from images.manifest import Manifest
from images.netboot import Tree
from images.progress import Progress
from images.rootfs import Rootfs, rootfs_layer
from images.seed import SEED, write_seed
from images.signing import SigningKey

_PARTIAL = ".partial"


@dataclass(frozen=True)
class Artifacts:
    """What stands in the out directory; a format that was not asked for is None. built: whether the disk is new."""

    qcow2: Path | None
    raw: Path | None
    iso: Path | None
    netboot: Path | None
    """The directory of an installation over the network."""
    seed: Path
    deb: Path
    manifest: Path
    built: bool


@dataclass(frozen=True)
class _Build:
    """One run: what is built of which config, where to, and with whose key."""

    loaded: Loaded
    out: Path
    store: Cache
    inputs: Inputs
    key: SigningKey
    release: bool
    progress: Progress

    @property
    def partial(self) -> Path:
        """Where everything new stands until all of it is there."""
        return self.out / _PARTIAL

    @functools.cached_property
    def base(self) -> Rootfs:
        """The first layer, made if need be."""
        return rootfs_layer(self.inputs.rootfs, self.store, self.progress)


def build_image(
    loaded: Loaded,
    out: Path,
    formats: Sequence[Format],
    *,
    cache: Path,
    progress: Progress,
    gpg_key: str = "",
    release: bool = False,
) -> Artifacts:
    """Build what is not there yet, and publish it in out: image, package, manifest.json, SHA256SUMS and seed.img.

    What other formats out holds of the same image stays, and stays in step. The sums and an installation's index are
    signed with the key beside the config's secrets, and the sums with gpg's gpg_key as well, where one is named. cache
    keeps the layers, and may be shared by builds that run at the same time. release: compress hard, which takes longer
    than all the rest. Whatever stops a build, no half file stands under a final name, and the next build clears away
    what it left. Raises BuildError, and ConfigError where a file that the config names is not there.
    """
    store, own = Cache(cache), loaded.source.parent / "secrets"
    preflight.check_tools(formats)
    if gpg_key:
        gpg.check(gpg_key)
    require_files(loaded)
    with store.building(out, progress.note):
        _clear_leftovers(store, out, progress)
        own_secrets = secrets.ensure(loaded.cluster, own)
        inputs = Inputs.of(on_this_host(loaded), lock.read(lock.path_of(loaded.source)))
        build = _Build(loaded, out, store, inputs, signing.ensure(own), release, progress)
        standing = _standing(build)
        wanted = _together(formats, standing, out)
        current = standing if standing is not None and set(wanted) <= _formats(standing) else None
        made = _make_disk(build, wanted) if current is None else _refresh(current, build)
        made = _with_installation(made, build, wanted)
        _publish(made, out, build.key, progress)
        if gpg_key:
            write_file(out / manifest.SUMS_GPG, gpg.sign(manifest.sums(made), gpg_key))
        for warning in made.warnings:
            progress.warning(warning)
        _write_seed(build, own_secrets.to_yaml())
        _write_iso(made, build, wanted)
        pruning.keep_for(out, made.key, store)
    return _artifacts(made, out, built=current is None)


def _clear_leftovers(store: Cache, out: Path, progress: Progress) -> None:
    partial = out / _PARTIAL
    if store.sweep() or partial.exists():
        progress.note("cleared away what an interrupted build had left")
    temporary = (path for prefix in (seed.TEMPORARY_PREFIX, iso.TEMPORARY_PREFIX) for path in out.glob(f"{prefix}*"))
    for leftover in (partial, *temporary):
        namespace.remove_tree(leftover)


def _standing(build: _Build) -> Manifest | None:
    """The manifest in out, if it tells of this very image, and its files are there with their sizes."""
    found = manifest.read(build.out)
    if found is None or (found.key, found.release) != (build.inputs.key, build.release):
        return None
    return found if manifest.stands(found, build.out) else None


def _formats(found: Manifest) -> set[Format]:
    """What can be had without making the disk again; an ISO is made of the payload whenever it is wanted."""
    disks: set[Format] = {"qcow2", "raw"}
    have = {format_ for format_ in disks if f"{NAME}.{format_}" in found.artifacts}
    return have | ({"iso", "netboot"} if netboot.has_payload(found) else set())


def _together(formats: Sequence[Format], standing: Manifest | None, out: Path) -> tuple[Format, ...]:
    """What is asked for, and what stands in out already: a format more does not cost the others."""
    if standing is None:
        return tuple(formats)
    kept = _formats(standing) & {"qcow2", "raw"}
    kept |= {"iso"} if (out / ISO).exists() else set()
    kept |= {"netboot"} if netboot.has_ipxe(standing) else set()
    return tuple(format_ for format_ in get_args(Format) if format_ in {*formats, *kept})


def _make_disk(build: _Build, formats: Sequence[Format]) -> Manifest:
    preflight.check_namespaces()
    preflight.check_space(_space_needed(build, formats))
    package = firstboot_package(build.inputs.package, build.store)
    upon = installed_layer(build.inputs.installed, build.base, build.store, build.progress)
    order = Order(build.inputs, build.loaded.cluster.config_hash(), build.base, upon, package, formats, build.release)
    return make_artifacts(order, build.partial, build.store, build.progress)


def _space_needed(build: _Build, formats: Sequence[Format]) -> list[tuple[Path, int]]:
    store, out = build.store, build.out
    cached = store.layer("rootfs", build.inputs.rootfs.key).is_dir()
    needs = [] if cached else [(store.root, preflight.ROOTFS_SPACE)]
    needs += [(out, preflight.PAYLOAD_SPACE)] if {"iso", "netboot"} & set(formats) else []
    return [*needs, (store.root, preflight.TREE_SPACE), (out, preflight.OUT_SPACE)]


def _refresh(current: Manifest, build: _Build) -> Manifest:
    """What an unchanged image still may need: the hash of a config that changed outside of it."""
    return current.model_copy(update={"config_hash": build.loaded.cluster.config_hash()})


def _with_installation(made: Manifest, build: _Build, formats: Sequence[Format]) -> Manifest:
    """With all that belongs to a payload, where there is one."""
    if not netboot.has_payload(made):
        return made
    tree = Tree(build.out, build.partial)
    made = tree.with_signature(made, build.key)
    if "netboot" in formats:
        made = tree.with_ipxe(made)
    request = installer.Request.of(build.inputs.rootfs.key, build.key.signers)
    return tree.with_installer(made, request, lambda: build.base, build.store, build.progress)


def _publish(made: Manifest, out: Path, key: SigningKey, progress: Progress) -> None:
    """Move what is new to its names. While that goes on there is no manifest, so no mixture passes for an image."""
    old, partial = manifest.read(out), out / _PARTIAL
    new = sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file())
    if made == old and not new:
        progress.note(f"nothing to do: {out} holds this very image (sizes checked; `sha256sum -c` checks the contents)")
    else:
        if old is not None and old.key == made.key:
            what = ", ".join(new) or "what nodes read from the seed medium"
            progress.note(f"the image stays as it is; written anew: {what}")
        for name in (manifest.NAME, manifest.SUMS, manifest.SUMS_SIGNATURE):
            (out / name).unlink(missing_ok=True)
        for name in {*new, *(old.artifacts.keys() - made.artifacts.keys() if old else ())}:
            (out / name).unlink(missing_ok=True)
        for name in new:
            (out / name).parent.mkdir(exist_ok=True, parents=True)
            (partial / name).rename(out / name)
        namespace.remove_tree(partial)
        write_file(out / manifest.NAME, made.to_json())
    sums = manifest.sums(made)
    if write_file(out / manifest.SUMS, sums):
        (out / manifest.SUMS_GPG).unlink(missing_ok=True)
    write_file(out / manifest.SUMS_SIGNATURE, key.sign(sums))
    write_file(out / signing.SIGNERS, key.signers)


def _write_seed(build: _Build, secrets_yaml: str) -> None:
    if write_seed(build.loaded.source, secrets_yaml, build.out / SEED):
        build.progress.note(f"wrote the seed medium {build.out / SEED}: it holds the cluster's secrets")


def _write_iso(made: Manifest, build: _Build, formats: Sequence[Format]) -> None:
    """An ISO of another image, or of another config, does not stay."""
    path = build.out / ISO
    if "iso" not in formats:
        path.unlink(missing_ok=True)
    elif write_iso(Medium(path, build.out, made, build.out / SEED)):
        build.progress.note(f"wrote the install medium {path}: it holds the cluster's secrets, too")


def _artifacts(made: Manifest, out: Path, *, built: bool) -> Artifacts:
    def at(name: str) -> Path | None:
        return out / name if name in made.artifacts else None

    (deb,) = (out / name for name in made.artifacts if name.endswith(".deb"))
    return Artifacts(
        qcow2=at(f"{NAME}.qcow2"),
        raw=at(f"{NAME}.raw"),
        iso=out / ISO if (out / ISO).exists() else None,
        netboot=out / TREE if netboot.has_ipxe(made) else None,
        seed=out / SEED,
        deb=deb,
        manifest=out / manifest.NAME,
        built=built,
    )
