"""Who may log in: this node's own keys, made here and never overwritten, and the administrator's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from config.door import run, write_file
from firstboot.node import ThisNode
from firstboot.places import Places
from firstboot.steps import Work

FILES = {"etc/ssh/sshd_config.d/xenpair.conf": 0o644}
HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
USER_KEY = "root/.ssh/id_ed25519"
AUTHORIZED_KEYS = "root/.ssh/authorized_keys"
KNOWN_HOSTS = "etc/ssh/ssh_known_hosts"


class Access:
    """SSH."""

    name: ClassVar[str] = "access"
    text: ClassVar[str] = "ed25519 host and root keys made on this node, administrator's keys, sshd"

    def check(self, work: Work) -> bool:
        """Both key pairs and the trust files are there; from then on sshd starts at every boot."""
        node = work.node
        return (
            all(has_key(node.places.at(key)) for key in (HOST_KEY, USER_KEY))
            and node.is_deployed(FILES)
            and _read(node.places.at(AUTHORIZED_KEYS)) == authorized_keys(node)
        )

    def apply(self, work: Work) -> None:
        """Make what is missing; a key that exists stays."""
        node = work.node
        for key, comment in ((HOST_KEY, node.me.name), (USER_KEY, f"root@{node.me.name}")):
            make_key(node.places.at(key), comment)
        node.deploy(FILES)
        write_trust(node)
        run(["systemctl", "start", "--no-block", "ssh.service"])


def make_key(path: Path, comment: str) -> None:
    """An ed25519 key pair, unless there is one. Raises CommandError where what is there is no key.

    ssh-keygen does not wait for the disk, so it writes elsewhere: a key under its final name is whole, and its public
    half was on the disk before it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_half_made(path)
    public = path.with_name(path.name + ".pub")
    if path.exists():
        write_file(public, run(["ssh-keygen", "-y", "-f", path]).stdout)
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-key-") as directory:
        new = Path(directory) / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", new])
        write_file(public, new.with_name("key.pub").read_bytes())
        write_file(path, new.read_bytes(), mode=0o600)


def _remove_half_made(path: Path) -> None:
    """What a power cut has left of a key that was never used; it would lie there for ever."""
    for left in path.parent.glob(".new-key-*"):
        shutil.rmtree(left)
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink()


def has_key(path: Path) -> bool:
    """Whether there is a key with a public half that says something."""
    return path.exists() and _read(path.with_name(path.name + ".pub")).startswith("ssh-ed25519 ")


def public_key(places: Places, key: str) -> str:
    """The one line of a public key."""
    return places.at(key + ".pub").read_text().strip()


def authorized_keys(node: ThisNode) -> str:
    """Administrators, those that the seed medium names, and the peer's root from the peer's address."""
    lines = list(node.cluster.admin.ssh_keys)
    lines += _read(node.places.seed_keys).splitlines()
    record = node.join_record()
    if record:
        lines.append(f'from="{node.peer.addresses.cluster.ip}" {record.peer.user_key}')
    return "".join(line + "\n" for line in lines)


def known_hosts(node: ThisNode) -> str:
    """The peer's host key as it was stated in the join: no first-use question, and no other key is believed."""
    record = node.join_record()
    if record is None:
        return ""
    peer = node.peer
    names = f"{peer.name},{peer.name}.{node.cluster.cluster.domain},{peer.addresses.cluster.ip}"
    return f"{names} {' '.join(record.peer.host_key.split()[:2])}\n"


def write_trust(node: ThisNode) -> None:
    """Write both files, according to what is known by now."""
    write_file(node.places.at(AUTHORIZED_KEYS), authorized_keys(node), mode=0o600)
    write_file(node.places.at(KNOWN_HOSTS), known_hosts(node))


def trust_is_written(node: ThisNode) -> bool:
    """Whether both files say what is known by now."""
    return _read(node.places.at(AUTHORIZED_KEYS)) == authorized_keys(node) and _read(
        node.places.at(KNOWN_HOSTS)
    ) == known_hosts(node)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
