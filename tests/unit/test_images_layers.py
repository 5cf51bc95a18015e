"""A layer's key changes when, and only when, something that goes into the layer changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.door import Output
from config.model import Backport, Cluster
from images import backport, deb, disklayer, files, rootfs
from images.cache import content_key
from images.deb import Package
from images.disklayer import Inputs
from images.errors import BuildError
from images.files import File, fingerprints, read_tree, write_tree
from images.rootfs import Request


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backport, "run", lambda _: Output(0, "mmdebstrap 1.3.5\n", ""))
    monkeypatch.setattr(deb, "commit_time", lambda _: 1767323045)


@pytest.fixture
def pair(cluster: Cluster) -> Cluster:
    """The example pair with a mirror of its own, so that no apt is asked."""
    return changed(cluster, "debian", mirror="http://mirror.example/debian")


def changed(cluster: Cluster, section: str, **values: object) -> Cluster:
    return cluster.model_copy(update={section: getattr(cluster, section).model_copy(update=values)})


def test_the_same_inputs_give_the_same_key(pair: Cluster) -> None:
    assert Inputs.of(pair).key == Inputs.of(pair).key


def test_a_key_does_not_depend_on_the_order_of_its_inputs() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})


@pytest.mark.parametrize(
    "values",
    [
        {"packages": ("tcpdump",)},
        {"mirror": "http://other.example/debian"},
        {"backports": (Backport(package="xen-tools"),)},
    ],
)
def test_what_the_first_layer_is_made_of_changes_both_keys(pair: Cluster, values: dict[str, object]) -> None:
    other = changed(pair, "debian", **values)
    assert Request.of(other.debian).key != Request.of(pair.debian).key
    assert Inputs.of(other).key != Inputs.of(pair).key


def test_dom0s_memory_changes_the_disk_and_not_the_first_layer(pair: Cluster) -> None:
    other = changed(pair, "dom0", memory=4 << 30)
    assert Inputs.of(other).rootfs.key == Inputs.of(pair).rootfs.key
    assert Inputs.of(other).key != Inputs.of(pair).key


def test_what_only_the_seed_medium_carries_changes_no_key(pair: Cluster) -> None:
    other = changed(pair, "heartbeat", deadtime=30)
    assert other.config_hash() != pair.config_hash()
    assert Inputs.of(other).key == Inputs.of(pair).key


def test_what_a_config_adds_goes_upon_the_layer_that_every_image_has(pair: Cluster) -> None:
    plain, added = (Request.of(changed(pair, "debian", packages=names).debian) for names in ((), ("tcpdump",)))
    assert added.base is not None
    assert added.base.key == plain.key
    assert added.base.packages_key == plain.packages_key


def test_packages_that_kernel_modules_are_built_of_are_installed_with_all_the_others(pair: Cluster) -> None:
    assert Request.of(changed(pair, "debian", packages=("tcpdump", "drbd-dkms")).debian).base is None


def test_our_files_and_our_code_do_not_choose_the_packages(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    debian = changed(pair, "debian", packages=()).debian
    before = Request.of(debian)
    monkeypatch.setattr(rootfs, "carried_by_initramfs", dict)
    after = Request.of(debian)
    assert after.key != before.key
    assert after.packages_key == before.packages_key


@pytest.mark.parametrize("name", ["etc/initramfs-tools/hooks/xenpair", "etc/lvm/lvm.conf", "etc/mdadm/mdadm.conf"])
def test_what_the_initramfs_carries_is_in_the_first_layer(name: str) -> None:
    assert name in rootfs.carried_by_initramfs()


def test_each_file_of_ours_is_in_exactly_one_layer(pair: Cluster) -> None:
    inputs = Inputs.of(pair)
    assert not set(inputs.files) & set(inputs.rootfs.files)
    assert set(inputs.files) | set(inputs.rootfs.files) >= set(read_tree(rootfs.TEMPLATES / "image"))


def test_content_and_mode_of_a_file_count_and_its_times_do_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    first = fingerprints(read_tree(tmp_path))
    os.utime(path, (1, 1))
    assert fingerprints(read_tree(tmp_path)) == first
    path.chmod(0o755)
    second = fingerprints(read_tree(tmp_path))
    path.write_text("two")
    assert len({first["file"], second["file"], fingerprints(read_tree(tmp_path))["file"]}) == 3


def test_modes_of_written_files_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_tree({"a/b/program": File(b"", executable=True), "a/text": File(b"")}, tmp_path / "tree")
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "tree").rglob("*")}
    assert modes == {"a": 0o755, "b": 0o755, "program": 0o755, "text": 0o644}


def test_a_template_variable_that_nothing_defines_is_an_error() -> None:
    with pytest.raises(Exception, match="'missing' is undefined"):
        files.render(File(b"{{ missing }}"), {})


def test_the_packages_version_rises_with_the_commit_and_changes_with_the_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Package.read()
    assert first.version.startswith("0.1.0+20260102030405.")
    assert first.file_name == f"xenpair-firstboot_{first.version}_all.deb"
    monkeypatch.setattr(deb, "payload", lambda _: {"usr/bin/xenpair": File(b"other")})
    assert Package.read().version != first.version


def test_the_package_carries_what_a_node_needs_and_nothing_of_the_build() -> None:
    carried = Package.read().files
    assert {
        "usr/bin/xenpair",
        "usr/lib/xenpair/config/model.py",
        "usr/lib/xenpair/firstboot/command.py",
        "usr/lib/xenpair/templates/node/etc/ha.d/ha.cf.j2",
        "usr/lib/systemd/system/xenpair-firstboot.service",
        "usr/lib/systemd/system/heartbeat.service.d/xenpair.conf",
    } <= set(carried)
    assert not [name for name in carried if "secrets/" in name or "__pycache__" in name or name.endswith(".yaml")]
    assert not [name for name in carried if "/templates/image/" in name or "/images/" in name]


def test_units_that_want_to_be_enabled_are() -> None:
    assert "xenpair-firstboot.service" in deb.enabled_units(Package.read().files)


def test_formats_are_known_ones() -> None:
    assert disklayer.parse_formats("raw, qcow2,raw") == (("qcow2", "raw"), False)
    assert disklayer.parse_formats("preseed") == ((), True)
    with pytest.raises(BuildError, match="'vmdk'"):
        disklayer.parse_formats("vmdk")
