"""The smaller copy of a config."""

from pathlib import Path

from config.loader import load
from lab.small import write_small_config

CONFIG = Path(__file__).parents[2] / "config" / "cluster.yaml"


def test_the_copy_is_the_same_pair_on_small_disks(tmp_path: Path) -> None:
    small = load(write_small_config(CONFIG, tmp_path / "small.yaml")).cluster
    backing = small.storage.backing
    assert (backing.serial, backing.min_size, backing.max_size) == ("data-*", 256 << 20, 256 << 20)
    original = load(CONFIG).cluster
    assert small.nodes == original.nodes
    assert small.network == original.network
