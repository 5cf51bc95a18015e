"""For those whose network boots Debian's own installer already: preseed.cfg, and what stands beside it on a web server.

All of it is served in the clear, so none of it is secret: a node that was installed like this takes the secrets from
the seed medium, as one does that was written from the disk image. What the answers fetch is pinned in them by sha256.
"""

from __future__ import annotations

import gzip
import io
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from config.debian_files import on_this_host
from config.door import sha256_of
from config.loader import Loaded
from config.model import Cluster, DiskRule, Node
from images import backport, disk, grub, packages, sources
from images.cache import Cache
from images.errors import BuildError
from images.files import File, read_tree, render
from images.packages import DISABLED_UNITS, ENABLED_UNITS, MASKED_UNITS
from images.progress import Progress
from images.rootfs import TEMPLATES, carried_by_initramfs, wanted_packages

DIRECTORY = "preseed"
"""Below the out directory, and below the root of the web server."""
ANSWERS = "preseed.cfg"
DISK_SCRIPT = "system-disk.sh"
LATE_SCRIPT = "late.sh"
FILES = "files.tar.gz"
POOL = "pool"
_POOL_THERE = "/var/tmp/xenpair"  # noqa: S108 - of a system that is being installed, where nobody else is

_PRESEED = TEMPLATES / "preseed"
_INSTALLERS_OWN = frozenset({"boot/grub/grub.cfg.j2", "etc/fstab.j2"})
"""Files of the image that tell of its disk: the installer writes them for the disk that it made."""
_DEBCONFS_OWN = "debconf "
"""How questions are shown is the installer's business while it runs."""


@dataclass(frozen=True)
class Served:
    """A file beside the answers, and the command by which they fetch, prove and run it."""

    name: str
    sha256: str

    @property
    def command(self) -> str:
        """For the installer's shell (preseed_fetch takes names relative to preseed.cfg)."""
        place = f"/tmp/{self.name}"  # noqa: S108 - of the installer, where nobody else is
        proof = f'echo "{self.sha256}  {place}" | sha256sum -c >/dev/null'
        return f"preseed_fetch {self.name} {place} && {proof} && sh {place}"


def write_preseed(
    loaded: Loaded, package: Path, out: Path, *, cache: Cache, progress: Progress, authorized_keys: str = ""
) -> list[Path]:
    """Write out/preseed anew; the paths of its files, preseed.cfg first.

    package: xenpair-firstboot's .deb. authorized_keys: further public keys, one a line, as on the seed medium. Raises
    BuildError, MirrorError where the mirror cannot be asked.
    """
    cluster = on_this_host(loaded)
    _refuse_mirrors(cluster)
    _refuse_debs(cluster)
    mirror, origin = sources.resolve(cluster.debian), sources.origin(cluster.debian)
    pools = [
        backport.backport_pool(backport.Request.of(wanted, cluster.debian, origin), cache, progress).directory
        for wanted in cluster.debian.backports
    ]
    with progress.stage("writing the answers for Debian's installer"):
        with cache.scratch() as scratch:
            offer = sources.survey(mirror, cluster.debian.suite, scratch)
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".preseed-") as directory:
            made = Path(directory) / DIRECTORY
            _write_pool(made / POOL, package, pools)
            seed = {"cluster.yaml": loaded.source.read_bytes(), "authorized_keys": authorized_keys.encode()}
            (made / FILES).write_bytes(pack(installed_files(cluster, offer), seed))
            _write_answers(made, cluster, mirror, offer, package.name)
            for path in (made, *made.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            shutil.rmtree(out / DIRECTORY, ignore_errors=True)
            made.rename(out / DIRECTORY)
    found = sorted(path for path in (out / DIRECTORY).rglob("*") if path.is_file())
    return sorted(found, key=lambda path: path.name != ANSWERS)


def _refuse_mirrors(cluster: Cluster) -> None:
    for node in cluster.nodes:
        if cluster.disk_rule(node, "system").raid1:
            raise BuildError(
                f"the system rule of {node.name} says raid1, and Debian's installer is told of one disk only",
                hint="install from the stick or the network (iso, netboot), which mirror the system's disks",
            )


def _refuse_debs(cluster: Cluster) -> None:
    if cluster.debian.debs.files or cluster.debian.debs.repositories:
        raise BuildError(
            "the config has debian.debs, and Debian's installer is told of Debian's archive and backports only",
            hint="install from the stick or the network (iso, netboot), whose image has those packages",
        )


def _write_pool(made: Path, package: Path, pools: Sequence[Path]) -> None:
    """Our package, and the backports with the index by which apt takes them by name."""
    made.mkdir(parents=True)
    for deb in (package, *(deb for pool in pools for deb in pool.glob("*.deb"))):
        shutil.copyfile(deb, made / deb.name)
    (made / "Packages").write_text("\n".join((pool / "Packages").read_text() for pool in pools))


def _write_answers(made: Path, cluster: Cluster, mirror: sources.Mirror, offer: sources.Offer, package: str) -> None:
    pool = [_served(path) for path in sorted((made / POOL).iterdir())]
    (made / LATE_SCRIPT).write_text(late_script(cluster, package, _served(made / FILES), pool))
    (made / DISK_SCRIPT).write_text(disk_script(cluster))
    scripts = (_served(made / name) for name in (DISK_SCRIPT, LATE_SCRIPT))
    (made / ANSWERS).write_text(preseed(cluster, mirror, offer, *scripts))


def _served(path: Path) -> Served:
    return Served(path.name, sha256_of(path))


def preseed(cluster: Cluster, mirror: sources.Mirror, offer: sources.Offer, disks: Served, late: Served) -> str:
    """preseed.cfg."""
    url = urlsplit(mirror.main)
    return _rendered(
        f"{ANSWERS}.j2",
        {
            "suite": cluster.debian.suite,
            "cluster": cluster.cluster.name,
            "mirror": {"scheme": url.scheme, "host": url.netloc, "directory": url.path or "/"},
            "disk_script": disks,
            "late_script": late,
            "root_mib": disk.ROOT.size // disk.MIB,
            "non_free_firmware": bool(offer.firmware),
            "packages": sorted({*packages.PACKAGES, *offer.firmware}),
            "debconf": [line for line in packages.DEBCONF.splitlines() if not line.startswith(_DEBCONFS_OWN)],
        },
    )


def disk_script(cluster: Cluster, root: str = "/") -> str:
    """What finds the system disk in Debian's installer; root: where that has its files."""
    nodes = [
        {"name": node.name, "matches": _is(node), "rule": _fits(cluster.disk_rule(node, "system"))}
        for node in cluster.nodes
    ]
    return _rendered(f"{DISK_SCRIPT}.j2", {"root": root, "nodes": nodes, "least_size": disk.DISK_SIZE})


def late_script(cluster: Cluster, package: str, files: Served, pool: Sequence[Served], root: str = "/") -> str:
    """What completes the installed system; package: the name of our own in the pool."""
    values = {
        "root": root,
        "files": files,
        "pool": pool,
        "place": _POOL_THERE,
        "packages": [f"{_POOL_THERE}/{package}", *sorted({*wanted_packages(cluster.debian)} - {*packages.PACKAGES})],
        "masked": MASKED_UNITS,
        "disabled": DISABLED_UNITS,
        "enabled": ENABLED_UNITS,
    }
    return _rendered(f"{LATE_SCRIPT}.j2", values)


def installed_files(cluster: Cluster, offer: sources.Offer) -> dict[str, File]:
    """Path -> file of ours for the installed system: those of the image, but for what tells of the image's disk."""
    values = {
        "xen_options": grub.xen_options(cluster.dom0.memory),
        "dom0_options": grub.DOM0_OPTIONS,
        "sources": offer.sources,
    }
    found = {name: file for name, file in read_tree(TEMPLATES / "image").items() if name not in _INSTALLERS_OWN}
    return carried_by_initramfs() | {
        name.removesuffix(".j2"): File(render(file, values), file.executable) if name.endswith(".j2") else file
        for name, file in found.items()
    }


def pack(files: Mapping[str, File], seed: Mapping[str, bytes]) -> bytes:
    """A tar of the files, and of the seed for /etc/xenpair, 0600. The same input gives the same bits."""
    entries = {name: (file.data, 0o755 if file.executable else 0o644) for name, file in files.items()}
    entries |= {f"etc/xenpair/{name}": (content, 0o600) for name, content in seed.items()}
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, (content, mode) in sorted(entries.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uname, entry.gname = len(content), mode, "root", "root"
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _is(node: Node) -> str:
    """The node's match, as a condition of the shell."""
    match = node.match
    conditions = [
        f"has_mac {shlex.quote(match.mac)}" if match.mac else "",
        f'[ "$machine_serial" = {shlex.quote(match.serial)} ]' if match.serial else "",
        f'[ "$machine_uuid" = {shlex.quote(match.uuid.lower())} ]' if match.uuid else "",
    ]
    return " && ".join(filter(None, conditions)) or "true"


def _fits(rule: DiskRule) -> str:
    """A disk rule, as a condition of the shell."""
    conditions = [
        " || ".join(f'matches "$serial" {_pattern(serial)}' for serial in rule.serials),
        f'[ "$wwn" = {shlex.quote(rule.wwn)} ]' if rule.wwn else "",
        f'matches "$model" {_pattern(rule.model)}' if rule.model else "",
        f'[ "$size" -ge {rule.min_size} ]' if rule.min_size else "",
        f'[ "$size" -le {rule.max_size} ]' if rule.max_size else "",
    ]
    return " && ".join(filter(None, conditions)) or "true"


def _pattern(glob: str) -> str:
    # A backslash means itself to Python's fnmatch, and takes the meaning from what follows it in a shell.
    return shlex.quote(glob.replace("\\", "\\\\"))


def _rendered(name: str, values: Mapping[str, object]) -> str:
    stop = (_PRESEED / "stop.sh").read_text()
    return render(File.read(_PRESEED / name), {**values, "stop": stop}).decode()
