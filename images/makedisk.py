"""Inside the namespace: from the first layer, our package and our files to a raw disk image."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from config.door import run
from images import disk, grub
from images.jobs import DiskJob, Result
from images.tree import Tree

_TREE_SIZE = 3 << 29
"""Bytes that the tree may take."""


def make_disk(job: DiskJob) -> Result:
    """Everything that differs from image to image, and then the image."""
    tree, identity, raw = Tree(Path(job.tree), job.date), disk.Identity.of(job.key), Path(job.raw)
    tree.path.mkdir()
    tree.keep_in_memory(_TREE_SIZE)
    tree.unpack(Path(job.tar))
    tree.lay_over(Path(job.files))
    with tree.mounted():
        shutil.copy2(job.deb, tree.path / "mnt" / Path(job.deb).name)
        tree.run("dpkg", "--install", f"/mnt/{Path(job.deb).name}")
        core, loader = _boot_loaders(tree, identity)
    tree.clean()
    _boot_files(tree)
    config = (tree.path / "boot/grub/grub.cfg").read_text()
    grub.check_default_is_xen(config, identity.root, lambda path: (tree.path / path.lstrip("/")).is_file())
    _mark_updated(tree)
    _write_disk(raw, tree, identity, core, loader)
    return tree.result()


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


def _boot_files(tree: Tree) -> None:
    for platform in ("i386-pc", "x86_64-efi"):
        target = tree.path / "boot/grub" / platform
        target.mkdir(exist_ok=True)
        for source in (tree.path / "usr/lib/grub" / platform).iterdir():
            if re.fullmatch(r".*\.(mod|lst)", source.name):
                shutil.copy2(source, target)


def _write_disk(raw: Path, tree: Tree, identity: disk.Identity, core: bytes, loader: bytes) -> None:
    with raw.open("xb") as f:
        f.truncate(disk.DISK_SIZE)
    run(disk.partition_argv(raw), stdin=disk.partition_script(identity))
    mkfs, config = tree.own("usr/sbin/mkfs.ext4"), {"MKE2FS_CONFIG": str(tree.path / "etc/mke2fs.conf")}
    run(disk.root_argv(mkfs, raw, tree.path, identity), env={**tree.environment, **config}, timeout=1800)
    _write_esp(raw, tree, identity, loader)
    lba = disk.BIOS_BOOT.lba
    boot_img = (tree.path / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    with raw.open("r+b") as f:
        f.write(grub.boot_sector(boot_img, lba))
        f.seek(disk.BIOS_BOOT.start)
        f.write(grub.core_image(core, lba, disk.BIOS_BOOT.size))


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
