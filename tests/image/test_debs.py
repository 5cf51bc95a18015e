"""Ready packages in a real root file system: one with a kernel module, and one whose module cannot be built.

The root file system is a small one: a kernel, its initramfs, and what settles them.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from config.debian import Debian, Debs
from config.door import run
from images import packages, rootfs, sources
from images.cache import Cache
from images.dpkg import versions
from images.errors import BuildError
from images.rootfs import Request, Rootfs, rootfs_layer
from tests.image.conftest import Said
from tests.unit.deb_rig import BROKEN, HELLO, make_deb, make_dkms_deb

SMALL = (
    "initramfs-tools",
    "kmod",
    "linux-image-cloud-amd64",
    "logsave",
    "mdadm",
    "systemd-sysv",
    "udev",
    "zstd",
    "e2fsprogs",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", SMALL)
    monkeypatch.setattr(sources, "FIRMWARE", ())
    monkeypatch.setattr(rootfs, "carried_by_initramfs", dict)


def request(*debs: Path) -> Request:
    files = [{"path": str(deb)} for deb in debs]
    return Request.of(Debian(debs=Debs.model_validate({"files": files})))


def read(layer: Rootfs, name: str) -> str:
    return run(["tar", "-x", "-O", "-f", layer.tar, f"./{name}"]).stdout


def test_a_ready_package_is_installed_and_of_a_kernel_module_only_that_stays(tmp_path: Path) -> None:
    # Older than Debian's, which apt alone would take.
    tool = make_deb(tmp_path, "pv", version="0.1-1", **{"usr+bin+pv": "#!/bin/sh\n"})
    wanted = request(tool, make_dkms_deb(tmp_path, "hello", HELLO))
    layer = rootfs_layer(wanted, Cache(tmp_path / "cache"), Said().progress)
    with tarfile.open(layer.tar) as tar:
        names = set(tar.getnames())
    status, index = read(layer, "var/lib/dpkg/status"), read(layer, f"usr/lib/modules/{layer.kernel}/modules.dep")
    assert f"./usr/lib/modules/{layer.kernel}/updates/dkms/hello.ko.xz" in names
    assert "updates/dkms/hello.ko.xz:" in index
    installed = versions(status)
    assert installed["pv"] == "0.1-1"
    assert not {"dkms", "hello-dkms", "gcc-14", "make"} & installed.keys()
    marked = re.findall("^Package: (.+)$", read(layer, "var/lib/apt/extended_states"), re.MULTILINE)
    assert "kmod" not in marked
    assert set(marked) < installed.keys()
    assert not [name for name in installed if name.startswith("linux-headers")]
    assert not [name for name in names if name.startswith(("./var/lib/dkms", "./etc/dkms", "./usr/src/"))]
    assert "Package: linux-image-cloud-amd64\nStatus: hold ok installed" in status
    assert layer.origins["pv"].startswith("file pv_0.1-1_all.deb, sha256 ")
    assert layer.origins["linux-image-cloud-amd64"] in {"trixie", "trixie-security", "trixie-updates"}
    assert layer.origins.keys() == installed.keys()
    assert layer.modules["hello/1.0"].startswith("hello-dkms 1.0-1, file hello-dkms_1.0-1_all.deb, sha256 ")


def test_a_kernel_module_that_cannot_be_built_fails_the_build(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    wanted = request(make_dkms_deb(tmp_path, "broken", BROKEN))
    with pytest.raises(BuildError, match=r"the kernel module broken/1.0 cannot be built for 6\.") as e:
        rootfs_layer(wanted, cache, Said().progress)
    assert "no_such_thing" in e.value.message
    assert not cache.layer("rootfs", wanted.key).exists()
    assert not list((tmp_path / "cache/scratch").iterdir())
