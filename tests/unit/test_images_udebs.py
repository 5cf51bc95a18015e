"""Whether a mirror has all that Debian's installer loads while it runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from images.udebs import Netboot, Udebs, loaded, missing, parse_packages, template_names, unpack_cpio

KERNEL = "6.12.117+deb13-amd64"


def entry(name: str, priority: str = "standard", **fields: str) -> str:
    """A paragraph of a Packages file."""
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    rest = f"Filename: pool/{name}.udeb\nSHA256: {'0' * 64}\n"
    return f"Package: {name}\nVersion: 1\nPriority: {priority}\n{more}{rest}"


def modules(kernel: str) -> str:
    return entry(f"ext4-modules-{kernel}-di", Kernel_Version=kernel)


def installer(*installed: str) -> Netboot:
    return Netboot("1", Path("linux"), Path("initrd"), KERNEL, frozenset(installed), frozenset())


def index(*entries: str, signed: bool = True) -> Udebs:
    return Udebs(parse_packages("\n".join(entries)), signed)


def test_a_mirror_that_has_everything_lacks_nothing() -> None:
    have = index(
        modules(KERNEL), entry("partman-base", Depends="partman-utils, libc6-udeb (>= 2.41)"), entry("partman-utils")
    )
    assert missing(have, installer("libc6-udeb")) == ()


def test_modules_for_another_kernel_are_none() -> None:
    have = index(modules("6.12.94+deb13-amd64"), modules("6.12.107+deb13-amd64"), entry("partman-base"))
    assert missing(have, installer()) == (f"ext4-modules-{KERNEL}-di",)


def test_a_dependency_that_is_nowhere_is_missing() -> None:
    have = index(modules(KERNEL), entry("partman-base", Depends="partman-utils (>= 5) | other"))
    assert missing(have, installer()) == ("partman-utils",)


@pytest.mark.parametrize("where", ["initrd", "provided", "alternative"])
def test_a_dependency_is_met_by_the_initrd_by_who_provides_it_and_by_an_alternative(where: str) -> None:
    others = {
        "initrd": [],
        "provided": [entry("b", "optional", Provides="a, c")],
        "alternative": [entry("d", "optional")],
    }
    have = index(modules(KERNEL), entry("partman-base", Depends="a | d"), *others[where])
    assert missing(have, installer(*(["a"] if where == "initrd" else []))) == ()


def test_an_index_that_the_release_does_not_sign_is_as_good_as_none() -> None:
    (fault,) = missing(index(modules(KERNEL), signed=False), installer())
    assert "index" in fault


def test_only_what_is_standard_and_what_that_needs_is_loaded() -> None:
    have = index(
        modules("6.1.0"),
        modules(KERNEL),
        entry("partman-base", Depends="partman-utils"),
        entry("partman-utils", "optional", Depends="partman-base"),
        entry("partman-zfs", "optional"),
    ).packages
    assert [p.name for p in loaded(have, KERNEL)] == [f"ext4-modules-{KERNEL}-di", "partman-base", "partman-utils"]


def test_template_names_are_those_of_a_templates_file() -> None:
    text = b"Template: a/b\nType: string\nDescription: x\n Template: no\n\nTemplate: c/d\nType: note\n"
    assert template_names(text) == ["a/b", "c/d"]


def test_an_initramfs_is_unpacked_entry_by_entry() -> None:
    assert [*unpack_cpio(io.BytesIO(_cpio(("./a", b"12345"), ("lib/b", b"")) + b"rest"))] == [
        ("a", b"12345"),
        ("lib/b", b""),
    ]


def _cpio(*entries: tuple[str, bytes]) -> bytes:
    archive = b""
    for name, content in (*entries, ("TRAILER!!!", b"")):
        fields = [0] * 13
        fields[6], fields[11] = len(content), len(name) + 1
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
    return archive
