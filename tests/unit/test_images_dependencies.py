"""Which packages have to be there before others."""

from __future__ import annotations

from images.dependencies import Package, closure

UDEV = """\
Package: udev
Status: install ok installed
Priority: important
Section: admin
Depends: libblkid1 (>= 2.37.2), libc6 (>= 2.38), adduser | systemd-sysusers, libudev1 (= 257.13-1~deb13u1), python3:any
Pre-Depends: dpkg (>= 1.20)
Recommends: left-out
Provides: made-up-name (= 257.13-1~deb13u1), other-name
Version: 257.13-1~deb13u1
Description: /dev/ and hotplug management daemon
 Depends: no-field
"""


def package(name: str, *needs: str, provides: str = "", essential: bool = False) -> Package:
    clauses = tuple(tuple(clause.split("|")) for clause in needs)
    return Package(name, essential, clauses, tuple(provides.split()))


def test_a_paragraph_is_read_without_versions_and_recommendations() -> None:
    assert Package.parse(UDEV) == Package(
        "udev",
        False,
        (("dpkg",), ("libblkid1",), ("libc6",), ("adduser", "systemd-sysusers"), ("libudev1",), ("python3",)),
        ("made-up-name", "other-name"),
    )


def test_essential_is_what_says_so() -> None:
    assert Package.parse("Package: dash\nEssential: yes\n").essential
    assert not Package.parse("Package: bash-completion\nEssential: no\n").essential


def test_the_closure_has_everything_that_is_needed_and_nothing_else() -> None:
    packages = [package("a", "b"), package("b", "c"), package("c"), package("d", "a")]
    assert closure(["a"], packages) == {"a", "b", "c"}


def test_circles_are_walked_once() -> None:
    assert closure(["a"], [package("a", "b"), package("b", "a")]) == {"a", "b"}


def test_every_alternative_and_every_provider_that_is_there_counts() -> None:
    packages = [package("a", "awk|absent"), package("mawk", provides="awk"), package("gawk", provides="awk")]
    assert closure(["a"], packages) == {"a", "mawk", "gawk"}
