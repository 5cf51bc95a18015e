"""Where the packages come from: which mirrors, which components they have, and how apt reaches them.

No host name is written here: the mirrors are those of the build host's own apt, or the one that the config names.
Everything that is installed is verified by apt against Debian's keyring; what is fetched here only decides what to
ask for.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path

from config.door import run
from config.errors import CommandError
from config.model import Debian
from images.errors import MirrorError
from images.packages import FIRMWARE, FIRMWARE_COMPONENT
from images.proxies import proxy_environment

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Of the package debian-archive-keyring: the same path on the build host and in the image."""

_APT_LISTS = Path("/var/lib/apt/lists")
_PRINTED_RELEASE = r"^'([a-z+]*(?:http|ftp)s?://\S+)/dists/(\S+)/(?:In)?Release' (\S+)"
APT_HELPER = "/usr/lib/apt/apt-helper"
_CARRIED = re.compile(
    r"Acquire::((http|https|ftp|socks|tor)(::\S+)?|Check-Valid-Until|Check-Date|ForceIPv[46]|Retries) \".+\";"
)


@dataclass(frozen=True)
class Mirror:
    """The two archives of a Debian release, as base addresses without a slash at the end."""

    main: str
    security: str
    past: bool = False
    """Whether it shows the archive as it once was, so that no index of it is too old."""


@dataclass(frozen=True)
class Source:
    """One entry of a deb822 sources file; signed_by: the keyring, by its path."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = KEYRING

    def one_line(self) -> list[str]:
        """The same in sources.list(5)'s one-line style."""
        components = " ".join(self.components)
        return [f"deb [signed-by={self.signed_by}] {self.uri} {suite} {components}" for suite in self.suites]


@dataclass(frozen=True)
class Offer:
    """What the mirror has of what we want."""

    sources: tuple[Source, ...]
    firmware: tuple[str, ...]
    warnings: tuple[str, ...]
    date: int
    """Of the release, in seconds since the epoch: it changes with a point release, and not with every update."""


def origin(debian: Debian) -> Mirror:
    """Where the packages of the image are taken from: the archive's past where the config says so, else the mirror."""
    if debian.snapshot is None or debian.snapshot_mirror is None:
        return resolve(debian)
    base = debian.snapshot_mirror.rstrip("/")
    return Mirror(f"{base}/{debian.snapshot}", f"{base}-security/{debian.snapshot}", past=True)


def resolve(debian: Debian) -> Mirror:
    """The mirror of the running node, for its upgrades. Raises MirrorError where this host's apt knows no archive."""
    if debian.mirror != "auto":
        main = debian.mirror.rstrip("/")
        return Mirror(main, main + "-security")
    mirror = find_mirror(run(["apt-get", "--print-uris", "update"], check=False).stdout, _stored_release)
    if mirror is None:
        raise MirrorError(
            "this host's apt has no Debian archive among its sources",
            hint="set debian.mirror in the config to the URL of a Debian mirror",
        )
    return mirror


def find_mirror(uris: str, stored_release: Callable[[str], str | None]) -> Mirror | None:
    """Debian's archives among the output of `apt-get --print-uris update`; None where main is not among them.

    stored_release() gives the Release file that apt has stored under a name, so that another vendor's archive of the
    same layout is told from Debian's; None where apt has not fetched any yet: then the official directory names count.
    Local archives (file:, cdrom:) are passed over: a node could not reach them.
    """
    main = security = None
    for base, suite, name in re.findall(_PRINTED_RELEASE, uris, flags=re.MULTILINE):
        release = stored_release(name)
        ours = base.endswith(("/debian", "/debian-security")) if release is None else _is_debians(release)
        if ours and re.search(r"-security$|/updates$", suite):
            security = security or base
        elif ours:
            main = main or base
    return Mirror(main, security or main + "-security") if main else None


def _is_debians(release: str) -> bool:
    return re.search(r"^Origin: Debian$", release, flags=re.MULTILINE) is not None


def _stored_release(name: str) -> str | None:
    try:
        return (_APT_LISTS / name).read_text(errors="replace")
    except OSError:
        return None


def apt_options(mirror: Mirror | None, dump: str | None = None) -> list[str]:
    """The host's settings that its apt needs to reach its mirror (proxy, certificates, validity of dates); and that an
    index of the past is not too old.

    From `apt-config dump`, as apt.conf(5) lines. Never those that would accept unauthenticated packages.
    """
    text = run(["apt-config", "dump"]).stdout if dump is None else dump
    carried = [line for line in text.splitlines() if _CARRIED.fullmatch(line)]
    return [*carried, 'Acquire::Check-Valid-Until "false";'] if mirror and mirror.past else carried


def survey(mirror: Mirror, suite: str, scratch: Path) -> Offer:
    """Ask the mirror which of the firmware packages it has. Raises MirrorError where it cannot be reached."""
    release = _release(mirror, mirror.main, suite, scratch)
    security = _release(mirror, mirror.security, f"{suite}-security", scratch)
    offered = _offered_firmware(mirror, suite, scratch) if FIRMWARE_COMPONENT in components(release) else ()
    warnings = []
    missing = sorted(set(FIRMWARE) - set(offered))
    if missing:
        what = "of the firmware packages" if offered else f"the component {FIRMWARE_COMPONENT}, so no firmware at all:"
        warnings.append(
            f"the mirror {mirror.main} lacks {what} {', '.join(missing)}; "
            "network cards that need such firmware will not work on the nodes"
        )
    with_firmware = ("main", FIRMWARE_COMPONENT) if offered else ("main",)
    security_components = tuple(name for name in with_firmware if name in components(security))
    return Offer(
        (
            Source(mirror.main, (suite, f"{suite}-updates"), with_firmware),
            Source(mirror.security, (f"{suite}-security",), security_components),
        ),
        tuple(sorted(set(FIRMWARE) & set(offered))),
        tuple(warnings),
        release_date(release),
    )


def moved(found: Sequence[Source], mirror: Mirror) -> tuple[Source, ...]:
    """Debian's suites and components at another mirror; what others sign stays where it is."""
    archives = ((source, source.suites[0].endswith("-security")) for source in found)
    return tuple(
        replace(source, uri=mirror.security if security else mirror.main) if source.signed_by == KEYRING else source
        for source, security in archives
    )


def _release(mirror: Mirror, archive: str, suite: str, scratch: Path) -> str:
    try:
        return fetch(f"{archive}/dists/{suite}/InRelease", scratch / f"InRelease-{suite}").decode()
    except MirrorError as e:
        if mirror.past:
            hint = "check debian.snapshot_mirror, and whether it holds the moment that debian.snapshot says"
            raise MirrorError(e.message, hint=hint) from e
        raise


def release_date(release: str) -> int:
    """When a Release file was made, in seconds since the epoch. Raises MirrorError where it does not say."""
    match = re.search(r"^Date: (.+)$", release, flags=re.MULTILINE)
    try:
        return int(parsedate_to_datetime(match[1] if match else "").timestamp())
    except ValueError as e:
        raise MirrorError("the mirror's Release file has no date", hint="choose another mirror") from e


def components(release: str) -> tuple[str, ...]:
    """Components that a Release file lists; the security archive's come with a directory in front."""
    match = re.search(r"^Components: (.+)$", release, flags=re.MULTILINE)
    return tuple(word.rpartition("/")[2] for word in match[1].split()) if match else ()


def _offered_firmware(mirror: Mirror, suite: str, scratch: Path) -> Sequence[str]:
    uri = f"{mirror.main}/dists/{suite}/{FIRMWARE_COMPONENT}/binary-amd64/Packages.xz"
    try:
        index = lzma.decompress(fetch(uri, scratch / "firmware-Packages.xz")).decode()
    except MirrorError:
        return ()
    return re.findall(r"^Package: (\S+)$", index, flags=re.MULTILINE)


def fetch(uri: str, target: Path, *, timeout: float = 90) -> bytes:
    """Fetch with apt's own methods, so that the host's proxies and certificates are honoured (timeout in seconds).

    Nothing is verified here. Raises MirrorError.
    """
    options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User=root"]
    try:
        run([APT_HELPER, *options, "download-file", uri, target], timeout=timeout, env=proxy_environment())
    except CommandError as e:
        reason = [line for line in e.stderr.splitlines() if line.startswith("E:")][:1] or [e.message]
        raise MirrorError(
            f"cannot fetch {uri}: {reason[0].removeprefix('E: ')}",
            hint="check the network, `apt-get update` on this host, and debian.mirror in the config",
        ) from e
    return target.read_bytes()
