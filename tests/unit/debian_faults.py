"""What can be wrong with that which the dom0 is made of."""

from __future__ import annotations

from tests.unit.guest_faults import Case, Change

_XEN_TOOLS = "{package: xen-tools, rebuild: false}"


def files(*paths: str) -> Change:
    flow = ", ".join(f"{{path: {path}}}" for path in paths)
    return "  suite: trixie", f"  suite: trixie\n  debs: {{files: [{flow}]}}"


DEBIAN_ERRORS: list[Case] = [
    (
        "named_once",
        [(_XEN_TOOLS, "{package: drbd-utils, suite: forky}")],
        "debian.backports[1].package",
        "drbd-utils, rebuild",
        "drbd-utils is already the package at debian.backports[0].package",
    ),
    (
        "named_once",
        [files("drbd.deb", "drbd.deb")],
        "debian.debs.files[1].path",
        "drbd.deb",
        "drbd.deb is already the file at debian.debs.files[0].path",
    ),
    (
        "own_sources",
        [(_XEN_TOOLS, "{package: xen-tools, source: xen-tools.dsc, rebuild: false}")],
        "debian.backports[0].rebuild",
        "xen-tools.dsc",
        "a source cannot be taken as it is",
    ),
    (
        "own_sources",
        [(_XEN_TOOLS, "{package: xen-tools, source: xen-tools.dsc, suite: sid}")],
        "debian.backports[0].suite",
        "xen-tools.dsc",
        "xen-tools is built from xen-tools.dsc, not from a suite",
    ),
]
