"""Packages that are neither Debian's nor rebuilt here: ready .deb files, and signed archives of others.

All that can be wrong with them is found before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from config.debian import Debs, Repository
from config.door import copy_file, run, sha256_of, write_file
from config.errors import CommandError
from images import openpgp, pool, sources
from images.cache import Cache, content_key
from images.errors import BuildError, MirrorError
from images.files import File, code
from images.pool import Pool
from images.progress import Progress
from images.proxies import proxy_environment
from images.sources import Mirror, Source

ARCHITECTURES = ("amd64", "all")
KEYRINGS = "etc/apt/keyrings"
"""Where keys of an administrator's choice belong (sources.list(5), Signed-By)."""
_DKMS = re.compile(r" \./usr/src/[^/]+/dkms\.conf$", re.MULTILINE)


def uri_here(wanted: Repository) -> str:
    """A repository's address while the image is built: of file:, dpkg in the image's tree could not read the files."""
    return re.sub("^file:", "copy:", wanted.uri)


@dataclass(frozen=True)
class Deb:
    """What a .deb says of itself; dkms: whether it brings the source of a kernel module."""

    name: str
    version: str
    dkms: bool

    @property
    def exactly(self) -> str:
        """For apt-get(8): this version and no other."""
        return f"{self.name}={self.version}"


@dataclass(frozen=True)
class Request:
    """The packages that are asked for, whose files and keys are what the config says. Paths are absolute."""

    debs: Debs
    sums: Mapping[str, str]
    """Path of a .deb -> its sha256."""
    keys: Mapping[str, bytes]
    """Path of a key -> its content."""
    key: str

    @classmethod
    def of(cls, debs: Debs) -> Request:
        """Raises BuildError where a file or a key is not the one that the config means."""
        sums = {file.path: sha256_of(Path(file.path)) for file in debs.files}
        for file in debs.files:
            if file.sha256 not in (None, sums[file.path]):
                raise BuildError(
                    f"{file.path} has the sha256 {sums[file.path]}, and the config says {file.sha256}",
                    hint="get the file again, or correct the config; nothing was built",
                )
        keys = {wanted.key: openpgp.check_key(Path(wanted.key), wanted.fingerprint) for wanted in debs.repositories}
        inputs = {
            "files": [(Path(path).name, found) for path, found in sums.items()],
            "repositories": [wanted.model_dump(mode="json", exclude={"key"}) for wanted in debs.repositories],
            "code": code(("debs.py", "openpgp.py", "pool.py")),
        }
        return cls(debs, sums, keys, content_key(inputs))

    def kept(self) -> tuple[Source, ...]:
        """The archives that the nodes are to know, too, with their keys as they lie there."""
        return tuple(
            Source(wanted.uri, (wanted.suite,), wanted.components, signed_by=f"/{self._key_file(wanted)}")
            for wanted in self.debs.repositories
            if not wanted.uri.startswith("file:")
        )

    def key_files(self) -> dict[str, File]:
        """Path in the image -> key, for the same."""
        kept = {source.signed_by.lstrip("/") for source in self.kept()}
        files = {self._key_file(wanted): File(self.keys[wanted.key]) for wanted in self.debs.repositories}
        return {name: file for name, file in files.items() if name in kept}

    def lines(self, scratch: Path) -> list[str]:
        """The archives for a sources.list(5) of this host; their keys are written to scratch."""
        return [line for _, source in self._here(scratch) for line in source.one_line()]

    def verify(self, scratch: Path) -> None:
        """Let apt ask each archive for its index. Raises MirrorError where one is not there, or does not verify."""
        for wanted, source in self._here(scratch):
            _verify(wanted, source, scratch / wanted.fingerprint)

    def _here(self, scratch: Path) -> Iterator[tuple[Repository, Source]]:
        for wanted in self.debs.repositories:
            key = scratch / Path(self._key_file(wanted)).name
            write_file(key, self.keys[wanted.key])
            yield wanted, Source(uri_here(wanted), (wanted.suite,), wanted.components, signed_by=str(key))

    def _key_file(self, wanted: Repository) -> str:
        return f"{KEYRINGS}/{openpgp.file_name(wanted.fingerprint, self.keys[wanted.key])}"


def file_pool(request: Request, cache: Cache, progress: Progress) -> tuple[Pool, tuple[Deb, ...]]:
    """The ready files as a pool, and what they are. Raises BuildError for one that is of no use."""
    found = {path: inspect(Path(path)) for path in request.sums}
    for name in {deb.name for deb in found.values()}:
        if len(same := [path for path, deb in found.items() if deb.name == name]) > 1:
            raise BuildError(f"{' and '.join(same)} are the same package {name}", hint="leave one in debian.debs.files")
    layer = cache.layer("debs", request.key)
    with cache.lock("debs", request.key, waiting=lambda: progress.note("another build takes the same packages")):
        if not layer.is_dir():
            with cache.scratch() as scratch:
                made = scratch / "pool"
                for path, expected in request.sums.items():
                    copy_file(Path(path), made / Path(path).name, sha256=expected)
                pool.seal(made, cache)
                cache.publish(made, "debs", request.key)
    origins = {deb.name: f"file {Path(path).name}, sha256 {request.sums[path]}" for path, deb in found.items()}
    return Pool(layer, pool.public_key(cache), origins), tuple(found.values())


def inspect(path: Path) -> Deb:
    """Read all of a .deb. Raises BuildError for one that is damaged, or for other machines."""
    try:
        fields = run(["dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}\n", path]).stdout
        contents = run(["dpkg-deb", "--contents", path]).stdout
    except CommandError as e:
        reason = e.stderr.strip().splitlines()[-1:] or [e.message]
        raise BuildError(
            f"{path} is not a whole Debian package: {reason[0]}", hint="get the file again; nothing was built"
        ) from e
    name, version, architecture = fields.split()
    if architecture not in ARCHITECTURES:
        raise BuildError(
            f"{path} is built for {architecture}, and the dom0 is {ARCHITECTURES[0]}",
            hint=f"get the file for {' or '.join(ARCHITECTURES)}; nothing was built",
        )
    return Deb(name, version, _DKMS.search(contents) is not None)


def _verify(wanted: Repository, source: Source, state: Path) -> None:
    for directory in ("lists/partial", "archives/partial"):
        (state / directory).mkdir(parents=True, exist_ok=True)
    write_file(state / "sources.list", "\n".join(source.one_line()) + "\n")
    settings = {
        "APT::Architecture": ARCHITECTURES[0],
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::Cache": str(state),
        "Dir::Etc::SourceList": str(state / "sources.list"),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": str(state),
        "Dir::State::Status": "/dev/null",
    }
    lines = [
        *sources.apt_options(Mirror(wanted.uri, wanted.uri)),
        *(f'{name} "{value}";' for name, value in settings.items()),
    ]
    write_file(state / "apt.conf", "\n".join(lines) + "\n")
    environment = {"APT_CONFIG": str(state / "apt.conf"), **proxy_environment()}
    done = run(["apt-get", "--quiet", "update", "--error-on=any"], check=False, timeout=300, env=environment)
    if fault := repository_fault(done.stderr, failed=done.returncode != 0):
        problem, hint = fault
        raise MirrorError(f"the repository {wanted.uri} {wanted.suite} {problem}", hint=f"{hint}; nothing was built")


def repository_fault(stderr: str, *, failed: bool) -> tuple[str, str] | None:
    """What apt-get update found wrong with an archive, and what to do; None where all is well."""
    if match := re.search(r"doesn't have the component '([^']+)'", stderr):
        return f"has no component {match[1]}", "correct its components in the config"
    if not failed:
        return None
    if "NO_PUBKEY" in stderr:
        return "is signed by another key than the config's", "get its right key, and compare the fingerprint"
    if "BADSIG" in stderr:
        return "has a signature that is not of its content", "somebody changed it on the way; ask who runs it"
    if "is not signed" in stderr:
        return "is not signed", "without a signature nothing in it can be trusted; ask who runs it"
    reasons = re.findall(r"^[EW]: (.+)$", stderr, re.MULTILINE) or [stderr.strip()]
    return f"cannot be used: {reasons[0]}", "check its uri and suite in the config, and the network"
