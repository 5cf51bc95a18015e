"""Inside the namespace: from the first layer, our package and our files to a raw disk image."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config.door import run
from images import delta, disk, grub
from images.jobs import DiskJob, Result
from images.tree import Tree

_TREE_SIZE = 3 << 29
"""Bytes that the tree may take."""
_ASIDE = ("usr/lib/firmware", "usr/lib/modules")
"""A third of the tree, which is in the filled disk as it is; nothing here looks at it."""


def make_disk(job: DiskJob) -> Result:
    """Everything that differs from image to image, put upon a tree and then into the disk that was filled with it."""
    tree, identity, raw = Tree(Path(job.tree), job.date), disk.Identity.of(job.key), Path(job.raw)
    tree.path.mkdir()
    tree.keep_in_memory(_TREE_SIZE)
    with ThreadPoolExecutor(1) as beside:
        copied = beside.submit(_copy, job.filled, raw)
        tree.unpack(Path(job.tar), without=_ASIDE)
        before = delta.snapshot(tree.path)
        core, loader = _put_upon(tree, job, identity)
        changes = delta.requests(before, delta.snapshot(tree.path), tree.path, job.date)
        copied.result()
    _partition(raw, identity)
    _write_root(raw, tree, identity, changes)
    _write_esp(raw, tree, identity, loader)
    _write_boot_sectors(raw, tree, core)
    return tree.result()


def _copy(filled: str, raw: Path) -> None:
    """And have it on the disk: debugfs waits for that in any case, and here it goes on beside other work."""
    run(["cp", "--sparse=auto", "--reflink=auto", filled, raw], timeout=1800)
    with raw.open("rb") as f:
        os.fsync(f.fileno())


def _put_upon(tree: Tree, job: DiskJob, identity: disk.Identity) -> tuple[bytes, bytes]:
    """Our files, our package and all that they cause; returns what boots the image on BIOS and on UEFI."""
    tree.lay_over(Path(job.files))
    with tree.mounted():
        shutil.copy2(job.deb, tree.path / "mnt" / Path(job.deb).name)
        tree.dpkg("--install", f"/mnt/{Path(job.deb).name}")
        loaders = _boot_loaders(tree, identity)
    tree.clean()
    config = (tree.path / "boot/grub/grub.cfg").read_text()
    grub.check_default_is_xen(config, identity.root, lambda path: (tree.path / path.lstrip("/")).is_file())
    _mark_updated(tree)
    return loaders


def _mark_updated(tree: Tree) -> None:
    """Tell systemd that /etc and /var are as new as /usr, or it rebuilds caches for half a minute at first boot.

    See ConditionNeedsUpdate= in systemd.unit(5). /usr itself is no newer than the tree's date, as all of the image.
    """
    for name in ("etc/.updated", "var/.updated"):
        (tree.path / name).write_text(f"TIMESTAMP_NSEC={tree.date * 10**9}\n")
        os.utime(tree.path / name, (tree.date, tree.date))


def _boot_loaders(tree: Tree, identity: disk.Identity) -> tuple[bytes, bytes]:
    """core.img for BIOS and the loader for UEFI, made by the image's own GRUB."""
    (tree.path / "mnt/early.cfg").write_text(grub.early_config(identity.root))
    bios = ["-O", "i386-pc", "-p", "/boot/grub", "-c", "/mnt/early.cfg", "-o", "/mnt/core.img", *grub.BIOS_MODULES]
    tree.run("grub-mkimage", *bios)
    tree.run("grub-mkimage", "-O", "x86_64-efi", "-p", "/EFI/debian", "-o", "/mnt/grub.efi", *grub.EFI_MODULES)
    return (tree.path / "mnt/core.img").read_bytes(), (tree.path / "mnt/grub.efi").read_bytes()


def _partition(raw: Path, identity: disk.Identity) -> None:
    """With tables made in an empty file: sfdisk waits until all of what it has opened is on the disk."""
    empty = raw.with_name("tables")
    with empty.open("xb") as f:
        f.truncate(disk.DISK_SIZE)
    run(disk.partition_argv(empty), stdin=disk.partition_script(identity))
    with empty.open("rb") as tables, raw.open("r+b") as f:
        for start in (0, disk.DISK_SIZE - disk.MIB):
            tables.seek(start)
            f.seek(start)
            f.write(tables.read(disk.MIB))
    empty.unlink()


def _write_root(raw: Path, tree: Tree, identity: disk.Identity, changes: list[str]) -> None:
    script = raw.with_name("changes")
    delta.apply(disk.change_argv(tree.own("usr/sbin/debugfs"), raw, script), changes, script, tree.environment)
    script.unlink()
    run(disk.uuid_argv(tree.own("usr/sbin/tune2fs"), raw, identity), env=tree.environment)


def _write_esp(raw: Path, tree: Tree, identity: disk.Identity, loader: bytes) -> None:
    config = grub.efi_config(identity.root).encode()
    files = {"EFI/BOOT/BOOTX64.EFI": loader, "EFI/debian/grubx64.efi": loader, "EFI/debian/grub.cfg": config}
    stage = raw.with_name("esp")
    # FAT has local times.
    env = {**tree.environment, "TZ": "UTC"}
    run(disk.esp_argv(raw, identity), env=env)
    run(disk.esp_directories_argv(raw, ("EFI", "EFI/BOOT", "EFI/debian")), env=env)
    for name, content in files.items():
        stage.write_bytes(content)
        run(disk.esp_copy_argv(raw, stage, name), env=env)
    stage.unlink()


def _write_boot_sectors(raw: Path, tree: Tree, core: bytes) -> None:
    lba = disk.BIOS_BOOT.lba
    boot_img = (tree.path / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    with raw.open("r+b") as f:
        f.write(grub.boot_sector(boot_img, lba))
        f.seek(disk.BIOS_BOOT.start)
        f.write(grub.core_image(core, lba, disk.BIOS_BOOT.size))
