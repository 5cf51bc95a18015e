"""Debian's own installer, as the mirror has it: the udebs that it loads while it runs, and whether they are all there.

A mirror may lag behind with them, for nobody but the installer asks for them. Its kernel and initrd come in a package
of the main archive; the udebs have an index of their own, and kernel modules among them fit one kernel only.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from config.door import run, sha256_of
from images.cache import Cache, content_key
from images.errors import MirrorError
from images.progress import Progress
from images.sources import KEYRING, Mirror, fetch

NETBOOT = {"trixie": "debian-installer-13-netboot-amd64"}
"""The package that holds the installer's kernel and initrd, by suite."""
_IMAGES = "usr/lib/debian-installer/images/13/amd64/text/debian-installer/amd64"
_INDEX = "main/debian-installer/binary-amd64/Packages.xz"
_MAIN = "main/binary-amd64/Packages.xz"
_LOADED = frozenset({"required", "important", "standard"})
"""Priorities of what the installer loads without being asked (anna, retriever.c)."""
_ASKED_FOR = frozenset({"apt-mirror-setup"})
"""What choose-mirror asks for by name (its postinst)."""
_SIZEABLE = 1800.0
"""Seconds for the largest download, 150 MB."""


@dataclass(frozen=True)
class Package:
    """An entry of a Packages file. path: below the archive; kernel: the only one that it fits, or empty."""

    name: str
    version: str
    priority: str
    kernel: str
    depends: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]
    path: str
    sha256: str


@dataclass(frozen=True)
class Udebs:
    """The mirror's index of udebs. signed: whether it is the one that the signed Release file names."""

    packages: tuple[Package, ...]
    signed: bool


@dataclass(frozen=True)
class Netboot:
    """Debian's installer as it is booted from the network, and what its initrd has within."""

    version: str
    linux: Path
    initrd: Path
    kernel: str
    installed: frozenset[str]
    templates: frozenset[str]


def parse_packages(text: str) -> tuple[Package, ...]:
    """The entries of a Packages file."""
    return tuple(_package(paragraph) for paragraph in text.split("\n\n") if paragraph.strip())


def _package(paragraph: str) -> Package:
    fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        priority=fields.get("Priority", ""),
        kernel=fields.get("Kernel-Version", ""),
        depends=tuple(_alternatives(clause) for clause in fields.get("Depends", "").split(",") if clause.strip()),
        provides=tuple(_alternatives(fields.get("Provides", "").replace(",", "|"))),
        path=fields["Filename"],
        sha256=fields["SHA256"],
    )


def _alternatives(clause: str) -> tuple[str, ...]:
    return tuple(name for part in clause.split("|") if (name := re.sub(r"[ (:].*", "", part.strip())))


def survey_udebs(mirror: Mirror, suite: str, scratch: Path) -> Udebs:
    """Ask the mirror for its index of udebs. Raises MirrorError where there is none, or the Release is not Debian's."""
    sums = _release(mirror, suite, scratch)
    packed = fetch(f"{mirror.main}/dists/{suite}/{_INDEX}", scratch / "udebs.xz")
    signed = hashlib.sha256(packed).hexdigest() == sums.get(_INDEX)
    return Udebs(parse_packages(lzma.decompress(packed).decode()), signed)


def netboot(mirror: Mirror, suite: str, cache: Cache, progress: Progress) -> Netboot:
    """The installer's kernel and initrd, from the cache or the mirror, verified down from Debian's signature.

    Raises MirrorError.
    """
    with cache.scratch() as scratch:
        index = fetch(f"{mirror.main}/dists/{suite}/{_MAIN}", scratch / "main.xz")
        if hashlib.sha256(index).hexdigest() != _release(mirror, suite, scratch).get(_MAIN):
            raise MirrorError(f"the index of {mirror.main} is not the one that its Release names", hint="retry later")
        text = lzma.decompress(index).decode()
        entry = re.search(rf"^Package: {NETBOOT[suite]}\n(?:.+\n)*", text, re.MULTILINE)
        if entry is None:
            raise MirrorError(f"the mirror {mirror.main} has no {NETBOOT[suite]}")
        package = _package(entry[0])
    layer = cache.layer("netboot", key := content_key({"sha256": package.sha256, "images": _IMAGES}))
    with cache.lock("netboot", key, waiting=lambda: progress.note(f"another build fetches {package.name}; waiting")):
        if not layer.is_dir():
            with cache.scratch() as scratch, progress.stage(f"fetching {package.name} {package.version}"):
                deb = scratch / "netboot.deb"
                _fetch_package(mirror, package, deb)
                run(["dpkg-deb", "--extract", deb, scratch / "root"], timeout=_SIZEABLE)
                (scratch / "layer").mkdir()
                for name in ("linux", "initrd.gz"):
                    shutil.copyfile(scratch / "root" / _IMAGES / name, scratch / "layer" / name)
                cache.publish(scratch / "layer", "netboot", key)
    return _netboot(package.version, layer)


def _netboot(version: str, layer: Path) -> Netboot:
    files: dict[str, bytes] = {}
    kernel = ""
    with gzip.open(layer / "initrd.gz") as f:
        for name, content in unpack_cpio(cast("BinaryIO", f)):
            if name == "var/lib/dpkg/status" or re.fullmatch(r"var/lib/dpkg/info/.*\.templates", name):
                files[name] = content
            elif match := re.match(r"(?:usr/)?lib/modules/([^/]+)/", name):
                kernel = match[1]
    status = files.pop("var/lib/dpkg/status").decode()
    return Netboot(
        version,
        layer / "linux",
        layer / "initrd.gz",
        kernel,
        frozenset(re.findall(r"^Package: (\S+)$", status, re.MULTILINE)),
        frozenset(name for content in files.values() for name in template_names(content)),
    )


def unpack_cpio(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and content of each entry of a cpio archive (Linux, early-userspace/buffer-format.rst: newc)."""
    while (header := stream.read(110)) and header[:6] == b"070701":
        size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        name = stream.read(name_size + -(110 + name_size) % 4)[: name_size - 1].decode()
        if name == "TRAILER!!!":
            return
        yield name.removeprefix("./"), stream.read(size + -size % 4)[:size]


def template_names(templates: bytes) -> list[str]:
    """Names of the debconf templates in a file."""
    return re.findall(r"^Template: (\S+)\s*$", templates.decode(errors="replace"), re.MULTILINE)


def loaded(udebs: Sequence[Package], kernel: str) -> tuple[Package, ...]:
    """What the installer with that kernel loads without being asked, and all that this depends on."""
    fitting = [package for package in udebs if package.kernel in ("", kernel)]
    by_name = {name: package for package in reversed(fitting) for name in (*package.provides, package.name)}
    found: dict[str, Package] = {}
    wanted = [package for package in fitting if package.priority in _LOADED or package.name in _ASKED_FOR]
    while wanted:
        package = wanted.pop()
        if package.name not in found:
            found[package.name] = package
            wanted += [by_name[name] for clause in package.depends for name in clause[:1] if name in by_name]
    return tuple(found[name] for name in sorted(found))


def missing(udebs: Udebs, installer: Netboot) -> tuple[str, ...]:
    """What stands between this mirror and an installation: udebs that it lacks, and an index that nobody has signed.

    Modules for the installer's kernel are those that the index has for its newest other kernel.
    """
    faults = [] if udebs.signed else ["the index of udebs that its Release names (the installer refuses another one)"]
    names = {name for package in udebs.packages for name in (package.name, *package.provides)} | installer.installed
    kernels = sorted({package.kernel for package in udebs.packages if package.kernel}, key=_numbers)
    expected = loaded(udebs.packages, installer.kernel if installer.kernel in kernels else (kernels or [""])[-1])
    for package in expected:
        here = package.name.replace(package.kernel, installer.kernel) if package.kernel else package.name
        faults += [here] if here not in names else []
        faults += [clause[0] for clause in package.depends if not package.kernel and not names & {*clause}]
    return tuple(dict.fromkeys(faults))


def _numbers(version: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", version)]


@dataclass(frozen=True)
class Fetched:
    """Names of the templates of some udebs, and the udebs that the mirror's index lists and its pool lacks."""

    templates: frozenset[str]
    lacking: tuple[str, ...]


def fetch_templates(mirror: Mirror, packages: Sequence[Package], cache: Cache) -> Fetched:
    """Fetch these udebs, as far as they are there and have the sums of the index; they stay in the cache."""
    names: set[str] = set()
    lacking = []
    for package in packages:
        try:
            names |= {*_templates(mirror, package, cache)}
        except MirrorError:
            lacking.append(f"{package.name} {package.version}")
    return Fetched(frozenset(names), tuple(lacking))


def _templates(mirror: Mirror, package: Package, cache: Cache) -> list[str]:
    """Of a control archive that was fetched once: what is installed by it is never looked at."""
    layer = cache.layer("udeb", key := content_key({"sha256": package.sha256}))
    with cache.lock("udeb", key, waiting=lambda: None):
        if not layer.is_dir():
            with cache.scratch() as scratch:
                _fetch_package(mirror, package, scratch / "udeb")
                run(["dpkg-deb", "--control", scratch / "udeb", scratch / "control"])
                cache.publish(scratch / "control", "udeb", key)
    file = layer / "templates"
    return template_names(file.read_bytes()) if file.is_file() else []


def _fetch_package(mirror: Mirror, package: Package, target: Path) -> None:
    fetch(f"{mirror.main}/{package.path}", target, timeout=_SIZEABLE)
    if sha256_of(target) != package.sha256:
        raise MirrorError(f"{package.path} of the mirror is not what its index says", hint="retry, or another mirror")


def _release(mirror: Mirror, suite: str, scratch: Path) -> dict[str, str]:
    """File -> sha256 of the suite's Release, which is Debian's or not believed."""
    signed, plain = scratch / "InRelease", scratch / "Release"
    fetch(f"{mirror.main}/dists/{suite}/InRelease", signed)
    done = run(["gpgv", "--quiet", "--keyring", KEYRING, "--output", plain, signed], check=False)
    if done.returncode != 0:
        raise MirrorError(
            f"the Release file of the mirror {mirror.main} does not verify against Debian's keyring",
            hint="update the package debian-archive-keyring, or choose another mirror",
        )
    found = re.findall(r"^ ([0-9a-f]{64}) +\d+ (\S+)$", plain.read_text(), re.MULTILINE)
    return {name: total for total, name in found}
