"""The Docker engine of this machine, and all that is asked of it."""

from __future__ import annotations

import contextlib
import functools
import getpass
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import LogConfig, Mount
from requests.exceptions import RequestException

from images.errors import BuildError, EngineError

PLATFORM = "linux/amd64"
"""That of the servers; on another one the engine emulates it."""
LABEL = "xenpair.builder"
"""On all images and containers of ours, so that they can be found and removed."""
_FIRST_ANSWER = 10
"""Seconds in which an engine has to say that it is there."""
_ENOUGH = 600
"""Seconds for any other answer: one image of some hundred MB may have to be stored before it."""
_LAST_ORDERS = 30
"""Seconds for an interrupted build to clear away what it has begun."""
_INTERRUPTED = 130


@dataclass(frozen=True)
class Rights:
    """What a container may do beyond nothing: capabilities(7), and whether it mounts things of its own."""

    capabilities: tuple[str, ...]
    mounts: bool


@dataclass(frozen=True)
class Container:
    """A container to be run once: which image, what in it, what it sees and may."""

    image: str
    command: Sequence[str]
    mounts: Sequence[Mount]
    rights: Rights
    environment: Mapping[str, str]
    directory: str = "/"


class Line(NamedTuple):
    """A line of a container's standard output, or of its standard error."""

    text: str
    error: bool


class Engine:
    """An engine that answers."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    @property
    def rootless(self) -> bool:
        """Whether root in its containers is the caller himself."""
        return "name=rootless" in self._security

    @property
    def native(self) -> bool:
        """Whether its containers run on this host's kernel and file systems, and not in a virtual machine."""
        return sys.platform == "linux" and str(self._info["OperatingSystem"]) != "Docker Desktop"

    @property
    def _security(self) -> list[str]:
        return self._info.get("SecurityOptions") or []

    @functools.cached_property
    def _info(self) -> dict[str, Any]:
        with _spoken():
            return self._api.info()

    def has_image(self, name: str) -> bool:
        """Whether the engine has an image of that name already."""
        with contextlib.suppress(ImageNotFound):
            self._api.inspect_image(name)  # type: ignore[no-untyped-call]
            return True
        return False

    def pull(self, name: str) -> str:
        """Fetch an image from its registry; the reason where that fails, else nothing."""
        repository, _, tag = name.partition(":")
        try:
            for message in self._api.pull(repository, tag, stream=True, decode=True, platform=PLATFORM):
                if "error" in message:
                    return str(message["error"])
        except APIError as e:
            return _reason(e)
        return ""

    def import_image(self, tar: Path, name: str) -> None:
        """Make an image of the tar of a root file system."""
        repository, _, tag = name.partition(":")
        with _spoken():
            self._api.import_image_from_file(str(tar), repository, tag)

    def commit(self, identifier: str, name: str) -> None:
        """Make an image of what a container has become."""
        repository, _, tag = name.partition(":")
        with _spoken():
            self._api.commit(identifier, repository, tag, changes=[f"LABEL {LABEL}={tag}"])

    @contextlib.contextmanager
    def container(self, wanted: Container) -> Iterator[str]:
        """A container that has not begun, by its identifier; at the end it is gone, whatever it was doing."""
        with _spoken():
            identifier = self._api.create_container(
                wanted.image,
                list(wanted.command),
                user="0:0",
                working_dir=wanted.directory,
                environment=dict(wanted.environment),
                labels={LABEL: "build"},
                host_config=self._host_config(wanted),
                platform=PLATFORM,
                # Proxies may hold passwords, and what stands in the environment stands in an image that is made of it.
                use_config_proxy=False,
            )["Id"]
        try:
            yield identifier
        finally:
            with _spoken():
                self._api.remove_container(identifier, v=True, force=True)

    def _host_config(self, wanted: Container) -> dict[str, object]:
        config: dict[str, object] = self._api.create_host_config(
            mounts=list(wanted.mounts),
            cap_drop=["ALL"],
            cap_add=list(wanted.rights.capabilities),
            # SELinux would keep a container from the caller's files, and AppArmor from mounting anything.
            security_opt=["no-new-privileges", "label=disable", *(["apparmor=unconfined"] * wanted.rights.mounts)],
            network_mode=self._network(),
            userns_mode="host" if "name=userns" in self._security else None,
            # Its output is for the caller; the engine is to keep none of it.
            log_config=LogConfig(type="none"),
        )
        if wanted.rights.mounts:
            # A /proc with parts hidden may not be mounted anew below a user namespace (mount_namespaces(7)); this is
            # `--security-opt systempaths=unconfined`, for which the SDK has no name.
            config |= {"MaskedPaths": [], "ReadonlyPaths": []}
        return config

    def _network(self) -> str:
        """The host's, where there is one: with it come its names, its proxies and its mirrors, also those on itself."""
        return "host" if any(network["Name"] == "host" for network in self._api.networks()) else "default"

    def run(self, identifier: str, tell: Callable[[Line], None]) -> int:
        """Run a container to its end; its exit code. tell: is given what it says.

        When this is interrupted, so is the container, and has a moment for its own end. Raises BuildError where it was
        killed.
        """
        with _spoken():
            output = self._api.attach(identifier, stream=True, demux=True)
            self._api.start(identifier)
            try:
                for line in _lines(output):
                    tell(line)
            except KeyboardInterrupt:
                self._end(identifier)
                raise
            code = int(self._api.wait(identifier)["StatusCode"])
        if code > 128 and code != _INTERRUPTED:
            raise BuildError(
                f"the builder's container was killed (signal {code - 128})",
                hint="with signal 9 it was the engine or the kernel: give the engine more memory, 2 GiB or more",
            )
        return code

    def _end(self, identifier: str) -> None:
        with contextlib.suppress(APIError, RequestException):
            self._api.kill(identifier, "SIGINT")
            self._api.wait(identifier, timeout=_LAST_ORDERS)


def connect() -> Engine:
    """The engine that Docker's own client would talk to. Raises EngineError where none answers or it is elsewhere."""
    try:
        api = docker.from_env(timeout=_FIRST_ANSWER).api
        api.ping()
    except (DockerException, RequestException) as e:
        raise _unreachable(e) from e
    if not api.base_url.startswith("http+docker:"):
        raise EngineError(
            f"the Docker engine at {api.base_url} is not on this machine, so it sees none of its files",
            hint="set DOCKER_HOST to the socket of an engine that runs here: unix:///PATH",
        )
    api.timeout = _ENOUGH
    return Engine(api)


def _unreachable(error: BaseException) -> EngineError:
    causes = [cause for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    if any(isinstance(cause, PermissionError) for cause in causes):
        return EngineError(
            "the Docker engine's socket is not open for this user",
            hint=f"`sudo usermod -aG docker {getpass.getuser()}`, and log in again; whoever may use it is as good as "
            "root",
        )
    return EngineError(
        f"no Docker engine answers here: {causes[-1].strerror if causes else error}",
        hint="install one (`apt-get install docker.io`) and start it, or set DOCKER_HOST to its socket",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # Some of the SDK's layers carry the cause as an argument only.
        for argument in error.args:
            if isinstance(argument, BaseException):
                yield from _causes(argument)
        error = error.__cause__ or error.__context__


def _lines(output: Iterable[Sequence[bytes | None]]) -> Iterator[Line]:
    """What comes in pieces of standard output and standard error, whole lines at a time."""
    begun = [b"", b""]
    for pieces in output:
        for i, piece in enumerate(pieces):
            *lines, begun[i] = (begun[i] + (piece or b"")).split(b"\n")
            yield from (Line(line.decode(errors="replace"), error=bool(i)) for line in lines)
    yield from (Line(rest.decode(errors="replace"), error=bool(i)) for i, rest in enumerate(begun) if rest)


@contextlib.contextmanager
def _spoken() -> Iterator[None]:
    try:
        yield
    except (DockerException, RequestException) as e:
        raise EngineError(f"the Docker engine failed: {_reason(e)}") from e


def _reason(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
