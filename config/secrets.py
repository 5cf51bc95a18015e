"""The secrets of one cluster: made at first use, kept beside the config, never overwritten.

They are plain texts here, because the renderer writes them into ha.d/authkeys and drbd.d; nothing prints them.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config import document
from config.findings import ConfigError, Finding
from config.model import Cluster

_HEADER = """\
# Secrets of the cluster {name}, made at its first build. Keep this file private, and keep it: the nodes of a running
# pair hold the same values. Passwords of management controllers are yours to add under bmc, as `NAME: PASSWORD`.
"""


def _bmc_password(value: str) -> str:
    if not 1 <= len(value.encode()) <= 20:
        # IPMI 2.0, section 22.30 (Set User Password).
        raise ValueError("is not a password for a BMC; IPMI 2.0 knows 1 to 20 bytes")
    if not value.isprintable():
        raise ValueError("holds a control character; use printable characters")
    return value


class Secrets(BaseModel):
    """What both nodes and nobody else may know. repr and str show no value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    authkeys: Annotated[str, Field(pattern=r"^[0-9a-f]{64,128}$", repr=False)]
    """Key of heartbeat's packets, hexadecimal, 256 bits or more."""
    drbd: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{32,63}$", repr=False)]
    """DRBD's shared secret. SHARED_SECRET_MAX of drbd 8.4 is 64 bytes with the final NUL (linux/drbd.h)."""
    join: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    """What the nodes prove to each other when they meet: 32 bytes, hexadecimal."""
    bmc: Annotated[dict[str, Annotated[str, AfterValidator(_bmc_password)]], Field(repr=False)] = {}
    """Passwords of management controllers, by the NAME that the config calls secret:NAME."""

    def to_yaml(self) -> str:
        """The file's text, for the seed that carries the secrets to a node."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)

    def bmc_password(self, reference: str) -> str:
        """The password that `secret:NAME` stands for; KeyError where there is none."""
        return self.bmc[reference.removeprefix("secret:")]


def secrets_file(cluster: Cluster, directory: Path) -> Path:
    """Where the secrets of a cluster are kept."""
    return directory / f"{cluster.cluster.name}.yaml"


def ensure(cluster: Cluster, directory: Path) -> Secrets:
    """The secrets of a cluster, made now if there are none yet.

    Raises ConfigError where the file cannot be trusted or understood, or lacks a BMC password that the config names:
    those alone cannot be invented.
    """
    path = secrets_file(cluster, directory)
    if not os.path.lexists(path):
        _create(path, cluster.cluster.name)
    found = load(path)
    if missing := missing_passwords(cluster, found, path):
        raise ConfigError(missing)
    return found


def load(path: Path) -> Secrets:
    """Read a secrets file. Raises ConfigError where others can read it, it is not ours, or its content is not right."""
    return parse(_read_private(path), str(path))


def parse(data: bytes, file: str) -> Secrets:
    """The secrets in a file's bytes; file is its name in messages, which never quote a value. Raises ConfigError."""
    content = document.parse(data, file)
    findings = list(content.duplicates)
    try:
        found = Secrets.model_validate(content.value)
    except ValidationError as e:
        from config.phrases import explain  # noqa: PLC0415 -- not needed on a node that boots

        raise ConfigError([*findings, *explain(e, content, Secrets, secret=True)]) from None
    if findings:
        raise ConfigError(findings)
    return found


def missing_passwords(cluster: Cluster, found: Secrets, path: Path) -> list[Finding]:
    """One finding for each BMC password that the config refers to and the secrets lack."""
    return [
        Finding(
            str(path),
            None,
            f"bmc.{name}",
            f"is missing, and {node.name} refers to it",
            f"add the line `  {name}: PASSWORD` under `bmc:` (in place of a `{{}}` behind it)",
        )
        for node in cluster.nodes
        if node.bmc and (name := node.bmc.password.removeprefix("secret:")) not in found.bmc
    ]


def _create(path: Path, name: str) -> None:
    """Write new secrets, unless another process has just done so: link() never replaces, and takes only whole files."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.parent.stat().st_mode)
    except OSError as e:
        raise _refused(path.parent, f"cannot be made: {e.strerror}", "make a directory of mode 0700 there") from None
    if mode & 0o077:
        raise _refused(path.parent, f"has mode {mode:04o}, so others can look into it", f"chmod 700 {path.parent}")
    new = Secrets(authkeys=secrets.token_hex(32), drbd=secrets.token_hex(24), join=secrets.token_hex(32))
    try:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 from the start
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as f:
                f.write(_HEADER.format(name=name) + new.to_yaml())
                f.flush()
                os.fsync(f.fileno())
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            Path(temporary).unlink()
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as e:
        raise _refused(path, f"cannot be written: {e.strerror}", "look at the file system and its free space") from None


def _read_private(path: Path) -> bytes:
    try:
        # O_NONBLOCK: a FIFO under that name must be refused, not waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if path.is_symlink():
            raise _refused(path, "is a symbolic link", "put the file itself there") from None
        raise _refused(path, f"cannot be read: {e.strerror}", "look at the file, its owner and its directory") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "is not a file", "move it away; a new file is made at the next build")
        if found.st_uid != os.geteuid():
            problem = f"belongs to user {found.st_uid}, and this is user {os.geteuid()}"
            raise _refused(path, problem, f"chown {os.geteuid()} {path}, or run as its owner")
        if found.st_mode & 0o077:
            problem = f"has mode {stat.S_IMODE(found.st_mode):04o}, so others can read it"
            raise _refused(path, problem, f"chmod 600 {path}, and change the secrets if others were there")
        return os.read(fd, document.MAX_BYTES)
    except OSError as e:
        raise _refused(path, f"cannot be read: {e.strerror}", "look at the file system") from None
    finally:
        os.close(fd)


def _refused(path: Path, problem: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(str(path), None, "", problem, remedy)])
