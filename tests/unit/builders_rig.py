"""A Docker engine of which only the SDK's client is played: what it is asked for is written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import docker
from docker.errors import APIError, ImageNotFound
from docker.types import HostConfig

from images.builders.engine import Engine

Piece = tuple[bytes | None, bytes | None]


class FakeApi:
    """The calls of docker.APIClient that are made, with the answers that an engine would give."""

    def __init__(self, *, images: Sequence[str] = (), networks: Sequence[str] = ("bridge", "host", "none")) -> None:
        self.info_answer: dict[str, Any] = {"OperatingSystem": "Debian", "SecurityOptions": ["name=seccomp"]}
        self.images = set(images)
        self.base_url = "http+docker://localhost"
        self.refusal = ""
        self.output: list[Piece] = []
        self.interrupted = False
        self.code = 0
        self.containers: list[dict[str, Any]] = []
        self.done: list[str] = []
        self._networks = networks

    @property
    def host_config(self) -> dict[str, Any]:
        """Of the last container."""
        return cast("dict[str, Any]", self.containers[-1]["host_config"])

    def ping(self) -> bool:
        return True

    def info(self) -> dict[str, Any]:
        return self.info_answer

    def networks(self) -> list[dict[str, str]]:
        return [{"Name": name} for name in self._networks]

    def inspect_image(self, name: str) -> dict[str, str]:
        if name not in self.images:
            raise ImageNotFound(f"No such image: {name}")
        return {"Id": name}

    def pull(self, repository: str, tag: str, **_: object) -> Iterator[dict[str, str]]:
        self.done.append(f"pull {repository}:{tag}")
        if self.refusal:
            raise APIError("500 Server Error", explanation=self.refusal)
        self.images.add(f"{repository}:{tag}")
        return iter([{"status": "Pull complete"}])

    def import_image_from_file(self, _: str, repository: str, tag: str) -> None:
        self.done.append(f"import {repository}:{tag}")
        self.images.add(f"{repository}:{tag}")

    def commit(self, _: str, repository: str, tag: str, **__: object) -> None:
        self.done.append(f"commit {repository}:{tag}")
        self.images.add(f"{repository}:{tag}")

    def create_host_config(self, **wanted: Any) -> HostConfig:
        return HostConfig(version="1.41", **wanted)

    def create_container(self, image: str, command: list[str], **wanted: Any) -> dict[str, str]:
        self.containers.append({"image": image, "command": command, **wanted})
        return {"Id": "c1"}

    def attach(self, _: str, **__: object) -> Iterator[Piece]:
        return self._spoken()

    def _spoken(self) -> Iterator[Piece]:
        yield from self.output
        if self.interrupted:
            raise KeyboardInterrupt

    def start(self, _: str) -> None:
        self.done.append("start")

    def wait(self, _: str, **__: object) -> dict[str, int]:
        self.done.append("wait")
        return {"StatusCode": self.code}

    def kill(self, _: str, signal: str) -> None:
        self.done.append(f"kill {signal}")

    def remove_container(self, _: str, **__: object) -> None:
        self.done.append("remove")


def engine(api: FakeApi) -> Engine:
    """The engine behind it."""
    return Engine(cast("docker.APIClient", api))
