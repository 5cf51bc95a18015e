"""GRUB: the default entry is really Xen, and the boot code finds the rest of itself."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from images import grub
from images.errors import BuildError
from images.files import File, render
from images.rootfs import TEMPLATES

UUID = "62e28e9d-ee1c-5e51-bf5e-2bdef4574ab7"
KERNEL = "6.12.117+deb13-amd64"


def everything_exists(path: str) -> bool:
    return path.startswith("/")


@pytest.fixture
def built() -> str:
    """grub.cfg as the build writes it."""
    values = {
        "root_uuid": UUID,
        "xen": "/boot/xen-4.20-amd64.gz",
        "kernel": f"/boot/vmlinuz-{KERNEL}",
        "initrd": f"/boot/initrd.img-{KERNEL}",
        "xen_options": grub.xen_options(1536 << 20),
        "dom0_options": grub.DOM0_OPTIONS,
        "linux_options": grub.LINUX_OPTIONS,
    }
    return render(File.read(TEMPLATES / "image/boot/grub/grub.cfg.j2"), values).decode()


@pytest.fixture
def updated(captured: Path) -> str:
    """grub.cfg as update-grub wrote it in a built image."""
    return (captured / "grub-update-grub.cfg").read_text()


def test_the_built_config_boots_xen(built: str) -> None:
    entry = grub.check_default_is_xen(built, UUID, everything_exists)
    assert entry.id == "xenpair-xen"
    assert "dom0_mem=1536M,max:1536M" in " ".join(entry.lines)


def test_update_grub_on_the_node_keeps_xen_the_default(updated: str) -> None:
    entry = grub.check_default_is_xen(updated, UUID, everything_exists)
    assert entry.title == "Debian GNU/Linux, with Xen hypervisor"
    assert entry.argument("multiboot2") == "/boot/xen-4.20-amd64.gz"
    assert entry.arguments("module2") == [f"/boot/vmlinuz-{KERNEL}", f"/boot/initrd.img-{KERNEL}"]


def test_submenus_count_as_one_entry(updated: str) -> None:
    titles = [entry.title if entry else None for entry in grub.top_level_entries(updated)]
    assert titles[:4] == ["Debian GNU/Linux", None, "Debian GNU/Linux, with Xen hypervisor", None]


def test_a_default_by_number_that_is_linux_is_refused(updated: str) -> None:
    plain = updated.replace('set default="Debian GNU/Linux, with Xen hypervisor"', 'set default="0"')
    with pytest.raises(BuildError, match="does not boot Xen"):
        grub.check_default_is_xen(plain, UUID, everything_exists)


def test_a_default_that_is_a_submenu_is_refused(updated: str) -> None:
    with pytest.raises(BuildError, match="no entry of its menu"):
        grub.default_entry(updated.replace('"Debian GNU/Linux, with Xen hypervisor"', '"1"', 1))


def test_without_a_default_the_first_entry_counts(built: str) -> None:
    assert grub.default_entry(built.replace('set default="xenpair-xen"', "")).id == "xenpair-xen"


def test_a_missing_hypervisor_is_refused(built: str) -> None:
    with pytest.raises(BuildError, match=r"/boot/xen-4\.20-amd64\.gz, which is not in the image"):
        grub.check_default_is_xen(built, UUID, lambda path: "xen" not in path)


def test_a_root_that_is_a_loop_device_is_refused(built: str) -> None:
    with pytest.raises(BuildError, match="does not name the root file system"):
        grub.check_default_is_xen(built.replace(f"root=UUID={UUID}", "root=/dev/loop0p3"), UUID, everything_exists)


def test_an_empty_menu_is_refused() -> None:
    with pytest.raises(BuildError, match="it is empty"):
        grub.default_entry("set default=0\n")


def test_the_boot_sector_loads_the_core_image_and_leaves_the_partition_table_alone() -> None:
    code = grub.boot_sector(bytes(510) + b"\x55\xaa", 2048)
    assert len(code) == 440
    assert struct.unpack_from("<Q", code, 0x5C) == (2048,)
    assert code[0x66:0x68] == b"\x90\x90"


def test_what_is_no_boot_sector_is_refused() -> None:
    with pytest.raises(BuildError, match="one boot sector"):
        grub.boot_sector(bytes(512), 2048)


@pytest.mark.parametrize(("size", "sectors"), [(512 * 70, 69), (512 * 70 + 1, 70)])
def test_the_core_image_lists_the_sectors_after_its_first(size: int, sectors: int) -> None:
    image = grub.core_image(bytes(size), 2048, 1 << 20)
    assert len(image) == size
    assert struct.unpack_from("<QHH", image, 500) == (2049, sectors, 0x820)


def test_a_core_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BuildError, match="room for"):
        grub.core_image(bytes(1025), 2048, 1024)
