"""Packages and signed repositories that a test makes with Debian's own tools."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path

from config.door import run

HELLO = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nMODULE_DESCRIPTION("says nothing");\n'
BROKEN = f"{HELLO}int wrong = no_such_thing;\n"
"""C of a kernel module, and of one that no compiler takes."""

_DKMS_CONF = """\
PACKAGE_NAME="{name}"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="{name}"
DEST_MODULE_LOCATION[0]="/updates"
AUTOINSTALL="yes"
"""
_POSTINST = """\
#!/bin/sh
set -e
[ "$1" != configure ] || /usr/lib/dkms/common.postinst {name} 1.0 /usr/share/{name} "" "$2"
"""
_PRERM = """\
#!/bin/sh
set -e
[ -z "$(dkms status {name}/1.0)" ] || dkms remove {name}/1.0 --all
"""
"""As dh_dkms(1) writes them."""


def make_deb(
    directory: Path, name: str, *, version: str = "1.0-1", architecture: str = "all", depends: str = "", **files: str
) -> Path:
    """A package; files: path -> text, with a plus for each slash; those below DEBIAN are programs."""
    root = directory / f"{name}.root"
    (root / "DEBIAN").mkdir(parents=True)
    control = {"Package": name, "Version": version, "Architecture": architecture, "Depends": depends}
    control |= {"Maintainer": "Test <test@example.org>", "Description": "for a test"}
    (root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items() if value))
    for path, text in files.items():
        target = root / path.replace("+", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if target.parent.name == "DEBIAN" else 0o644)
    deb = directory / f"{name}_{version}_{architecture}.deb"
    run(["dpkg-deb", "--root-owner-group", "--build", root, deb])
    return deb


def make_dkms_deb(directory: Path, name: str, source: str) -> Path:
    """A DKMS package of one module."""
    there = f"usr+src+{name}-1.0+"
    files = {
        f"{there}dkms.conf": _DKMS_CONF.format(name=name),
        f"{there}Makefile": f"obj-m := {name}.o\n",
        f"{there}{name}.c": source,
        "DEBIAN+postinst": _POSTINST.format(name=name),
        "DEBIAN+prerm": _PRERM.format(name=name),
    }
    return make_deb(directory, f"{name}-dkms", depends="dkms", **files)


class Signer:
    """An OpenPGP key: in a directory of its own, with its public half beside that."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes"]
        run([*self._gpg, "--passphrase", "", "--quick-generate-key", home.name, "ed25519", "sign", "never"])
        self.public = home.with_suffix(".asc")
        run([*self._gpg, "--armor", "--output", self.public, "--export"])
        listed = run([*self._gpg, "--with-colons", "--list-keys"]).stdout
        self.fingerprint = re.findall(r"^fpr:+([0-9A-F]+):", listed, re.MULTILINE)[0]
        self._end_agent = ["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"]

    def sign(self, release: Path) -> None:
        """Write InRelease beside a Release."""
        run([*self._gpg, "--clearsign", "--output", release.with_name("InRelease"), release])

    def close(self) -> None:
        """End the agent that gpg has started."""
        run(self._end_agent)


def make_repository(root: Path, debs: Sequence[Path], signer: Signer | None) -> str:
    """An archive with the suite trixie and the component main; its address."""
    (root / "pool").mkdir(parents=True)
    for deb in debs:
        (root / "pool" / deb.name).write_bytes(deb.read_bytes())
    index = run(["dpkg-scanpackages", "pool"], cwd=root).stdout
    suite, name = root / "dists/trixie", "main/binary-amd64/Packages"
    (suite / name).parent.mkdir(parents=True)
    (suite / name).write_text(index)
    release = {"Origin": "Vendor", "Codename": "trixie", "Architectures": "amd64", "Components": "main"}
    release |= {"Date": formatdate(usegmt=True)}
    release |= {"SHA256": f"\n {hashlib.sha256(index.encode()).hexdigest()} {len(index)} {name}"}
    (suite / "Release").write_text("".join(f"{key}: {value}\n" for key, value in release.items()))
    if signer is not None:
        signer.sign(suite / "Release")
    return f"file:{root}"
