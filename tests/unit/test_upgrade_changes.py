"""What a changed config means for a running pair: each key of the model, and what becomes of the guests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from config.changes import EFFECTS, Change, Effect, changes, effect_of
from config.loader import load
from config.model import Cluster
from tests.unit.conftest import EXAMPLE

GUEST = "guests:\n  - {name: web01, home: xen1, memory: 512M, disk: 2G, options: {cpuid: host}}\n"
TEXT = EXAMPLE.read_text().replace("guests: []", GUEST)


def cluster_of(tmp_path: Path, text: str) -> Cluster:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    return load(file).cluster


def changed(tmp_path: Path, old: str, new: str) -> tuple[Change, ...]:
    assert old in TEXT
    return changes(cluster_of(tmp_path, TEXT), cluster_of(tmp_path, TEXT.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "path", "effect"),
    [
        ("name: xenpair", "name: other", "cluster.name", "refused"),
        ("example.org", "example.com", "cluster.domain", "live"),
        ("mirror: auto", "mirror: 'http://deb.example/debian'", "debian.mirror", "recorded"),
        ("memory: 1536M", "memory: 1792M", "dom0.memory", "reboot"),
        ("bridge: xenbr0", "bridge: xenbr1", "network.bridge", "refused"),
        ("bridge: xenbr0", "bridge: xenbr0\n  dns: [192.168.132.9]", "network.dns", "live"),
        ("guest: 192.168.132.2/24", "guest: 192.168.132.3/24", "nodes[xen2].addresses.guest", "refused"),
        ("192.168.132.242", "192.168.132.243", "nodes[xen2].bmc.address", "live"),
        ('{serial: "data-*"', '{serial: "disk-*"', "storage.backing.serial", "refused"),
        ("resource: r0", "resource: r1", "storage.drbd.resource", "refused"),
        ("max_rate: 300M", "max_rate: 100M", "storage.drbd.max_rate", "live"),
        ("volume_group: data", "volume_group: disks", "storage.volume_group", "refused"),
        ("deadtime: 20", "deadtime: 24", "heartbeat.deadtime", "restart"),
        ("heartbeat: {", "heartbeat: {port: 695, ", "heartbeat.port", "refused"),
        ("guests:", "fencing: {delay: 30}\nguests:", "fencing.delay", "live"),
        ("memory: 512M, disk", "memory: 640M, disk", "guests[web01].memory", "guests"),
        ("disk: 2G", "disk: 3G", "guests[web01].disk", "guests"),
        ("disk: 2G", "disk: 1G", "guests[web01].disk", "refused"),
        ("disk: 2G", "disk: 2G, priority: 60", "guests[web01].priority", "refused"),
        ("home: xen1", "home: xen2", "guests[web01].home", "refused"),
        ("cpuid: host", "tsc_mode: native", "guests[web01].options.cpuid", "refused"),
    ],
)
def test_each_value_has_its_effect(tmp_path: Path, old: str, new: str, path: str, effect: Effect) -> None:
    found = {change.path: change.effect for change in changed(tmp_path, old, new)}
    assert found[path] == effect
    assert len(found) == 1 or path.startswith("guests[web01].options")


def test_other_names_of_nodes_are_refused_as_one(tmp_path: Path) -> None:
    # The guest's home goes with them.
    text = TEXT.replace("xen1", "xen3")
    found = changes(cluster_of(tmp_path, TEXT), cluster_of(tmp_path, text))
    assert ("nodes.name", "refused", "xen1, xen2", "xen3, xen2") in [(c.path, c.effect, c.old, c.new) for c in found]


def test_a_config_that_means_the_same_changes_nothing(tmp_path: Path) -> None:
    assert changed(tmp_path, "disk: 2G", "disk: 2048M") == ()


def test_a_new_guest_is_made_and_one_that_is_gone_from_the_config_stays(tmp_path: Path) -> None:
    without, one = EXAMPLE.read_text(), TEXT
    added = changes(cluster_of(tmp_path, without), cluster_of(tmp_path, one))
    removed = changes(cluster_of(tmp_path, one), cluster_of(tmp_path, without))
    assert [(c.path, c.effect) for c in added] == [("guests[web01]", "guests")]
    assert [(c.path, c.effect) for c in removed] == [("guests[web01]", "recorded")]
    assert "xenpair guest delete web01" in removed[0].text


def test_a_timing_by_which_the_nodes_would_take_each_other_for_dead_is_refused(tmp_path: Path) -> None:
    # A node that beats every 12 s, and one that gives up after 20 s.
    timing = "keepalive: 2, warntime: 8, deadtime: 20, initdead: 60"
    slow = "keepalive: 12, warntime: 30, deadtime: 90, initdead: 180"
    effects = {c.path: c.effect for c in changed(tmp_path, timing, slow)}
    assert effects["heartbeat.keepalive"] == effects["heartbeat.deadtime"] == "refused"
    backwards = changes(cluster_of(tmp_path, TEXT.replace(timing, slow)), cluster_of(tmp_path, TEXT))
    assert "refused" in {c.effect for c in backwards}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that a config may have, like nodes.bmc.address."""
    for name, field in model.model_fields.items():
        below = [kind for kind in parts(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        for kind in below:
            yield from keys(kind, f"{prefix}{name}.")
        if not below:
            yield f"{prefix}{name}"


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


def test_every_key_of_the_model_has_an_effect_and_every_effect_a_key() -> None:
    known = list(keys(Cluster))
    assert "nodes.bmc.address" in known
    for key in known:
        assert effect_of(key)[0] in get_args(Effect)
    for entry in EFFECTS:
        assert any(key == entry or key.startswith(f"{entry}.") for key in known), entry


def test_a_key_of_nobodys_has_no_effect() -> None:
    with pytest.raises(KeyError):
        effect_of("network.colour")


def test_what_cannot_change_says_what_to_do(tmp_path: Path) -> None:
    (change,) = changed(tmp_path, "guest: 192.168.132.2/24", "guest: 192.168.132.3/24")
    assert str(change) == (
        "nodes[xen2].addresses.guest: 192.168.132.2/24 -> 192.168.132.3/24 "
        "(cannot change: fixed when the pair was formed: back up the guests, and form a new pair)"
    )
