"""The cache loses what nobody needs, and never what an image that stands or a build that runs is made of."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from config.door import write_file
from images import manifest, namespace, pruning
from images.cache import Cache
from images.errors import BuildError
from images.manifest import Manifest
from images.progress import Progress
from images.pruning import Layer

DAY = 86400


@pytest.fixture
def root(real_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without namespaces, which take a machine that allows them."""
    monkeypatch.setattr(namespace, "isolated", lambda argv: [str(word) for word in argv])
    return tmp_path / "cache"


def use(cache: Cache, kind: str, key: str, *, days_ago: float = 0) -> Path:
    """Have a layer, made or found, as a build does."""
    layer = cache.layer(kind, key)
    with cache.lock(kind, key, waiting=lambda: None):
        if not layer.is_dir():
            layer.mkdir(parents=True)
            (layer / "content").write_bytes(b"x" * 100_000)
    then = time.time() - days_ago * DAY
    os.utime(cache.locks / f"{kind}-{key}", (then, then))
    return layer


def image(out: Path, key: str) -> None:
    """Let an image with that key stand in out."""
    made = Manifest(
        suite="", key=key, config_hash="", root_uuid="", kernel="", warnings=(), sources=(), artifacts={}, packages={}
    )
    write_file(out / manifest.NAME, made.to_json())


def test_only_what_was_not_used_for_so_long_goes(root: Path) -> None:
    old, new = use(Cache(root), "rootfs", "a", days_ago=31), use(Cache(root), "deb", "1.0-1", days_ago=29)
    pruning.prune(root, 30 * DAY, Progress())
    assert not old.exists()
    assert (new / "content").is_file()
    assert [(layer.kind, layer.key) for layer in pruning.layers(Cache(root))] == [("deb", "1.0-1")]
    assert not list((root / "scratch").iterdir())


def test_each_use_makes_a_layer_young_again(root: Path) -> None:
    layer = use(Cache(root), "rootfs", "a", days_ago=31)
    with Cache(root).lock("rootfs", "a", waiting=lambda: None):
        pass
    pruning.prune(root, DAY, Progress())
    assert layer.exists()


def test_what_an_image_that_stands_is_made_of_stays_until_it_is_gone(root: Path, tmp_path: Path) -> None:
    build, out = Cache(root), tmp_path / "out"
    layer = use(build, "rootfs", "a", days_ago=99)
    image(out, "key")
    pruning.keep_for(out, "key", build)
    # A build that finds nothing to do asks for no layer.
    pruning.keep_for(out, "key", Cache(root))
    pruning.prune(root, DAY, Progress())
    assert layer.exists()
    image(out, "another")
    pruning.prune(root, DAY, Progress())
    assert not layer.exists()


def test_nothing_goes_while_a_build_uses_the_cache(root: Path) -> None:
    layer = use(Cache(root), "rootfs", "a", days_ago=99)
    told: list[str] = []

    class Waits(Exception):  # noqa: N818 - no error
        pass

    def tell(text: str) -> None:
        told.append(text)
        raise Waits

    with Cache(root).in_use(tell), Cache(root).in_use(tell), pytest.raises(Waits), Cache(root).unused(tell):
        pass
    assert told == ["a build uses the cache; waiting for its end"]
    with Cache(root).unused(tell), pytest.raises(Waits), Cache(root).in_use(tell):
        pass
    assert told[1:] == ["the cache is pruned; waiting for that"]
    assert layer.exists()


def test_what_is_no_layer_is_left_alone(root: Path) -> None:
    (root / "pip-tools/bin").mkdir(parents=True)
    use(Cache(root), "rootfs", "a", days_ago=99)
    pruning.prune(root, 0, Progress())
    assert (root / "pip-tools/bin").is_dir()


def test_the_summary_has_a_line_for_each_kind_and_one_for_all() -> None:
    found = [Layer("rootfs", "a", 700 << 20, 0, needed=True), Layer("rootfs", "b", 600 << 20, 0, needed=False)]
    head, *rows = pruning.summary([*found, Layer("deb", "c", 1000, 0, needed=False)])
    assert head.split() == ["kind", "layers", "size", "needed", "by", "images", "last", "used"]
    assert [row.split()[:5] for row in rows] == [
        ["deb", "1", "1M", "0,", "0M"],
        ["rootfs", "2", "1300M", "1,", "700M"],
        ["all", "3", "1301M", "1,", "700M"],
    ]
    assert list(pruning.summary([])) == ["  nothing"]


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1w", "0d"])
def test_an_age_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="is not a span of time"):
        pruning.parse_age(text)
    assert pruning.parse_age("30d") == 30 * DAY
