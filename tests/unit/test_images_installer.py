"""The installer's archive: what goes into it, and that the same content is always the same archive."""

from __future__ import annotations

import os
from pathlib import Path

from images import cpio, installer, makeinstaller
from images.installer import Request
from images.makeinstaller import MODULES, with_dependencies

SIGNERS = 'xenpair namespaces="xenpair-image" ssh-ed25519 AAAA\n'
MODULES_DEP = """\
kernel/drivers/net/ethernet/intel/igb/igb.ko.xz: kernel/drivers/i2c/i2c-algo-bit.ko.xz kernel/drivers/dca/dca.ko.xz
kernel/drivers/net/ethernet/mellanox/mlxsw/mlxsw_core.ko.xz: kernel/net/psample/psample.ko.xz
kernel/drivers/net/ethernet/mellanox/mlx4/mlx4_core.ko.xz:
kernel/drivers/net/wireless/ath/ath.ko.xz:
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz
kernel/drivers/i2c/i2c-algo-bit.ko.xz:
kernel/drivers/dca/dca.ko.xz:
kernel/drivers/gpu/drm/drm.ko.xz:
kernel/fs/isofs/isofs.ko.xz:
"""


def tree(root: Path) -> Path:
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"tool")
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "usr/bin/link").symlink_to("tool")
    (root / "usr/text").write_bytes(b"text")
    return root


def names(archive: bytes) -> list[tuple[str, int]]:
    """Name and mode of each member (cpio(5), new ASCII format)."""
    found, at = [], 0
    while at < len(archive):
        mode, size, length = (int(archive[at + start : at + start + 8], 16) for start in (14, 54, 94))
        found.append((archive[at + 110 : at + 109 + length].decode(), mode))
        at = (at + 110 + length + 3) // 4 * 4
        at = (at + size + 3) // 4 * 4
    return found


def test_a_directory_comes_before_what_is_in_it_and_nothing_is_setuid(tmp_path: Path) -> None:
    assert names(b"".join(cpio.newc(tree(tmp_path)))) == [
        ("usr", 0o40755),
        ("usr/bin", 0o40755),
        ("usr/bin/link", 0o120777),
        ("usr/bin/tool", 0o100755),
        ("usr/text", 0o100644),
        ("TRAILER!!!", 0),
    ]


def test_the_same_content_is_the_same_archive_whenever_it_was_written(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "usr/text", (1, 1))
    for root in (one, two):
        cpio.pack(root, root.with_suffix(".img"), level=3)
    assert one.with_suffix(".img").read_bytes() == two.with_suffix(".img").read_bytes()


def test_wired_cards_come_with_what_their_drivers_need_and_nothing_else_does() -> None:
    found = {Path(name).name.partition(".")[0] for name in with_dependencies(MODULES_DEP, MODULES)}
    assert found == {"igb", "i2c-algo-bit", "dca", "mlx4_core", "virtio_net", "net_failover", "isofs"}


def test_a_path_is_put_where_it_really_is() -> None:
    for name in ("/lib/x86_64-linux-gnu/libz.so.1", "usr/lib/x/../x86_64-linux-gnu/libz.so.1"):
        assert str(makeinstaller._real(name)) == "usr/lib/x86_64-linux-gnu/libz.so.1"
    assert str(makeinstaller._real("/etc/passwd")) == "etc/passwd"


def test_what_is_the_same_in_the_dom0s_initramfs_is_known(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert makeinstaller._same(one / "usr/text", two / "usr/text")
    assert makeinstaller._same(one / "usr/bin/link", two / "usr/bin/link")
    assert not makeinstaller._same(one / "usr/bin/link", two / "usr/bin/tool")
    (two / "usr/text").chmod(0o755)
    assert not makeinstaller._same(one / "usr/text", two / "usr/text")
    assert not makeinstaller._same(one / "usr/text", two / "usr/other")


def test_our_code_and_the_trusted_key_are_carried_and_no_secret_is() -> None:
    found = installer.carried(SIGNERS)
    assert {"scripts/xenpair", "etc/passwd", "usr/lib/xenpair/config/payload.py"} <= set(found)
    assert found["etc/xenpair/image-signers"].data == SIGNERS.encode()
    assert not [name for name in found if "secrets/" in name or name.endswith((".yaml", ".j2"))]


def test_another_key_changes_the_installer_and_not_its_large_part() -> None:
    one, two = Request.of("rootfs", SIGNERS), Request.of("rootfs", SIGNERS.replace("AAAA", "BBBB"))
    assert one.key != two.key
    assert (one.layer_key, one.date) == (two.layer_key, two.date)
    assert Request.of("other", SIGNERS).layer_key != one.layer_key
