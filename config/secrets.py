"""The secrets of one cluster: made at first use, kept beside the config, none ever replaced.

They are plain texts here, because the renderer writes them into ha.d/authkeys and drbd.d; nothing prints them.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import string
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from config import document
from config.door import write_file
from config.findings import ConfigError, Finding
from config.model import Cluster

_HEADER = """\
# Secrets of the cluster {name}, made at its first build. Keep this file private, and keep it: the nodes of a running
# pair hold the same values.
#
# The passwords under bmc are those of the management controllers. They were made at random, so no controller knows them
# yet: put each controller's real password in their place, or set the one that stands here on the controller.
"""

BMC_REMEDY = "put each BMC's real password there, or set the one that was made on the BMC"
PASSWORD_LENGTH = 16
"""Characters of a password made here. A BMC may hold 16 or 20 bytes (IPMI 2.0, section 22.30, Set User Password)."""
_PASSWORD_CHARACTERS = string.ascii_letters + string.digits


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
    """The secrets of a cluster, made now if there are none yet; so is each BMC password that the config names.

    What the file holds already is never replaced. Raises ConfigError where it cannot be trusted, understood or written.
    """
    path = secrets_file(cluster, directory)
    if not os.path.lexists(path):
        _create(path, cluster)
    found = load(path)
    if missing_passwords(cluster, found):
        found = _add_passwords(path, cluster)
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


def missing_passwords(cluster: Cluster, found: Secrets) -> dict[str, str]:
    """By NAME, the node that refers to it: each BMC password that the config names and the secrets lack."""
    references = {node.bmc.password.removeprefix("secret:"): node.name for node in cluster.nodes if node.bmc}
    return {name: node for name, node in references.items() if name not in found.bmc}


def with_passwords(text: str, new: Mapping[str, str]) -> str:
    """A secrets file's text with further passwords under bmc, where bmc is a block or is empty: comments stay.

    The caller must see whether it came out right: a file can be written in other ways, which this does not know.
    """
    lines = text.rstrip("\n").split("\n")
    place = next((i for i, line in enumerate(lines) if line.startswith("bmc:")), len(lines))
    if place == len(lines):
        lines.append("bmc:")
    lines[place] = re.sub(r"^bmc:\s*\{\s*\}", "bmc:", lines[place])
    entry = next((line for line in lines[place + 1 :] if line.strip() and not line.lstrip().startswith("#")), "")
    indent = entry[: len(entry) - len(entry.lstrip(" "))] or "  "
    added = [f'{indent}{name}: "{password}"' for name, password in new.items()]
    lines[place + 1 : place + 1] = [f"{indent}# Made at random: {BMC_REMEDY}.", *added]
    return "\n".join(lines) + "\n"


def _random_passwords(names: Mapping[str, str]) -> dict[str, str]:
    return {name: "".join(secrets.choice(_PASSWORD_CHARACTERS) for _ in range(PASSWORD_LENGTH)) for name in names}


def _add_passwords(path: Path, cluster: Cluster) -> Secrets:
    """Add the BMC passwords that are missing, by replacing the file atomically; one process at a time."""
    with _locked(path.parent):
        data = _read_private(path)
        found = parse(data, str(path))
        new = _random_passwords(missing_passwords(cluster, found))
        wanted = found.model_copy(update={"bmc": {**found.bmc, **new}})
        text = with_passwords(data.decode("utf-8-sig"), new)
        try:
            understood = parse(text.encode(), str(path)) == wanted
        except ConfigError:
            understood = False
        if not understood:
            text = _HEADER.format(name=cluster.cluster.name) + wanted.to_yaml()
        try:
            write_file(path, text, mode=0o600)
        except OSError as e:
            raise _unwritable(path, e) from None
    return wanted


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _create(path: Path, cluster: Cluster) -> None:
    """Write new secrets, unless another process has just done so: link() never replaces, and takes only whole files."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.parent.stat().st_mode)
    except OSError as e:
        raise _refused(path.parent, f"cannot be made: {e.strerror}", "make a directory of mode 0700 there") from None
    if mode & 0o077:
        raise _refused(path.parent, f"has mode {mode:04o}, so others can look into it", f"chmod 700 {path.parent}")
    new = Secrets(authkeys=secrets.token_hex(32), drbd=secrets.token_hex(24), join=secrets.token_hex(32))
    new = new.model_copy(update={"bmc": _random_passwords(missing_passwords(cluster, new))})
    try:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 from the start
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as f:
                f.write(_HEADER.format(name=cluster.cluster.name) + new.to_yaml())
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
        raise _unwritable(path, e) from None


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


def _unwritable(path: Path, e: OSError) -> ConfigError:
    return _refused(path, f"cannot be written: {e.strerror}", "look at the file system and its free space")


def _refused(path: Path, problem: str, remedy: str) -> ConfigError:
    return ConfigError([Finding(str(path), None, "", problem, remedy)])
