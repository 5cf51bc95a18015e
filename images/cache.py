"""What makes builds repeatable and safe to cut off: content keys, locks, scratch directories, atomic publishing."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from images import namespace

_IN_USE = ".in-use"


def content_key(inputs: Mapping[str, object]) -> str:
    """Key of everything that goes into a layer: 32 hex digits of a sha256 over the inputs. Never made of times."""
    canonical = json.dumps(inputs, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@contextlib.contextmanager
def locked(path: Path, *, waiting: Callable[[], None], shared: bool = False) -> Iterator[None]:
    """Hold a lock on a file, exclusive or shared; the kernel lets go of it when this process ends, however it ends.

    waiting() is called once when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("w") as f:
        try:
            fcntl.flock(f, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(f, kind)
        yield


class Cache:
    """Finished layers under KIND/KEY, locks, and scratch directories that outlive nobody.

    Every layer has a lock, locks/KIND-KEY, whose time is that of the layer's last use: opening it for writing sets it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.locks = self.root / "locks"
        self.used: set[tuple[str, str]] = set()
        """Kind and key of the layers that were asked for since."""
        self._scratch = self.root / "scratch"

    def layer(self, kind: str, key: str) -> Path:
        """Where the finished layer stands, if it does."""
        return self.root / kind / key

    @contextlib.contextmanager
    def lock(self, kind: str, key: str, *, waiting: Callable[[], None]) -> Iterator[None]:
        """Keep other builds from making the same layer."""
        self.used.add((kind, key))
        with locked(self.locks / f"{kind}-{key}", waiting=waiting):
            yield

    @contextlib.contextmanager
    def in_use(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Keep every layer where it is, for as long as some are read; any number of builds do that at once."""
        with locked(self.root / _IN_USE, waiting=lambda: tell("the cache is pruned; waiting for that"), shared=True):
            yield

    @contextlib.contextmanager
    def building(self, out: Path, tell: Callable[[str], None]) -> Iterator[None]:
        """Keep other builds from writing to out, and every layer where it is."""
        with (
            locked(out / ".lock", waiting=lambda: tell(f"another build writes to {out}; waiting for it")),
            self.in_use(tell),
        ):
            yield

    @contextlib.contextmanager
    def unused(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Keep every build out, so that layers may go."""
        with locked(self.root / _IN_USE, waiting=lambda: tell("a build uses the cache; waiting for its end")):
            yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory that is gone at the end; what a killed build left is swept by the next one."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=f"{os.getpid()}-", suffix=".lock") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX)
            directory = Path(marker.name).with_suffix("")
            directory.mkdir()
            try:
                yield directory
            finally:
                namespace.remove_tree(directory)

    def sweep(self) -> int:
        """Remove the scratch directories of builds that are no more; how many there were."""
        swept = 0
        for marker in self._scratch.glob("*.lock"):
            with contextlib.suppress(FileNotFoundError), marker.open() as f:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                namespace.remove_tree(marker.with_suffix(""))
                marker.unlink()
                swept += 1
        return swept

    def publish(self, made: Path, kind: str, key: str) -> Path:
        """Give a finished directory its final name, in one step."""
        final = self.layer(kind, key)
        final.parent.mkdir(parents=True, exist_ok=True)
        made.rename(final)
        return final
