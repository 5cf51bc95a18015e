"""What a node's files say, from the example config: rendered as first boot renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.model import Cluster
from config.secrets import Secrets
from firstboot.brief import Brief, both_fresh, read_brief
from firstboot.errors import NodeError
from firstboot.heartbeat import Heartbeat
from firstboot.join.facts import Facts, JoinRecord
from firstboot.node import NodeNics, ThisNode
from firstboot.places import Places
from firstboot.plan.replication import InitialSync
from firstboot.steps import access, identity, network, replication
from firstboot.storage import recorded_sync

HEARTBEAT = dict(Heartbeat.files)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZha2VrZXlmYWtla2V5ZmFrZWtleWZha2VrZXlmYWtl"
PARTITIONS = {
    "xen1": "/dev/disk/by-partuuid/11111111-1111-4111-8111-111111111111",
    "xen2": "/dev/disk/by-partuuid/22222222-2222-4222-8222-222222222222",
}


def this_node(cluster: Cluster, name: str, root: Path) -> ThisNode:
    return ThisNode(
        cluster=cluster,
        secrets=Secrets(authkeys="ab" * 32, drbd="cd" * 24, join="ef" * 32),
        me=cluster.node(name),
        peer=cluster.peer_of(name),
        nics=NodeNics(guest="eno1", cluster="eno2"),
        places=Places(root),
    )


def join(node: ThisNode, **changes: Any) -> None:
    """Leave the record of a join on that node."""

    def facts(name: str) -> Facts:
        values = {
            "node": name,
            "cluster": "xenpair",
            "config_hash": node.cluster.config_hash(),
            "version": "0.1.0",
            "drbd": "8.4.11",
            "host_key": f"{KEY} host@{name}",
            "user_key": f"{KEY} root@{name}",
            "partition": PARTITIONS[name],
            "size": 1 << 30,
            "fresh": True,
        }
        return Facts.model_validate(values | changes)

    record = JoinRecord(mine=facts(node.me.name), peer=facts(node.peer.name))
    node.places.join.parent.mkdir(parents=True, exist_ok=True)
    node.places.join.write_text(record.model_dump_json())


@pytest.fixture
def xen1(cluster: Cluster, tmp_path: Path) -> ThisNode:
    return this_node(cluster, "xen1", tmp_path / "one")


@pytest.fixture
def xen2(cluster: Cluster, tmp_path: Path) -> ThisNode:
    return this_node(cluster, "xen2", tmp_path / "two")


def test_every_template_of_a_node_belongs_to_a_step_and_renders(xen1: ThisNode) -> None:
    join(xen1)
    steps = (identity.FILES, network.FILES, access.FILES, replication.FILES, HEARTBEAT)
    deployed = {path for files in steps for path in files}
    root = Path(__file__).parents[2] / "templates" / "node"
    assert {str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.j2")} == deployed
    for path in deployed:
        text = xen1.render(path)
        assert text.endswith("\n")
        assert "Managed by xenpair" in text


def test_both_nodes_agree_on_what_they_share(xen1: ThisNode, xen2: ThisNode) -> None:
    for node in (xen1, xen2):
        join(node)
    for path in ("etc/hosts", "etc/drbd.d/xenpair.res", "etc/ha.d/ha.cf", "etc/ha.d/authkeys", "etc/ha.d/haresources"):
        assert xen1.render(path) == xen2.render(path)


def test_hosts_names_both_nodes_on_the_cluster_link(xen1: ThisNode) -> None:
    lines = xen1.render("etc/hosts").splitlines()
    assert "10.10.32.1\txen1.example.org xen1" in lines
    assert "10.10.32.2\txen2.example.org xen2" in lines


def test_heartbeat_is_told_ports_and_logging_before_media(xen1: ThisNode) -> None:
    words = [
        line.split()[0] for line in xen1.render("etc/ha.d/ha.cf").splitlines() if not line.startswith("#") and line
    ]
    assert max(words.index("udpport"), words.index("use_logd")) < min(words.index("bcast"), words.index("ucast"))
    assert {"autojoin", "auto_failback", "deadtime", "initdead", "warntime", "keepalive"} <= set(words)


def test_the_drbd_resource_keeps_the_fields_rules(xen1: ThisNode) -> None:
    join(xen1)
    text = xen1.render("etc/drbd.d/xenpair.res")
    for rule in (
        "allow-two-primaries yes;",
        "fencing resource-and-stonith;",
        "after-sb-2pri disconnect;",
        "protocol C;",
    ):
        assert rule in text
    assert "become-primary-on" not in text
    assert text.index("fencing") > text.index("disk {"), "in 8.4 fencing belongs to disk, not to net"
    for name, partition in PARTITIONS.items():
        assert f"on {name} {{" in text
        assert f'disk "{partition}";' in text


def test_files_with_secrets_are_for_root_alone() -> None:
    for files in (HEARTBEAT, replication.FILES):
        for path, mode in files.items():
            if path.endswith(("authkeys", ".res")):
                assert mode == 0o600


def test_the_packet_filter_lets_replication_in_from_the_peer_on_the_cluster_link(xen1: ThisNode) -> None:
    rules = [line.strip() for line in xen1.render("etc/nftables.conf").splitlines()]
    assert 'iifname "eno2" ip saddr 10.10.32.2 tcp dport { 7788, 7700 } accept' in rules
    assert "type filter hook input priority filter; policy drop;" in rules


def test_a_deployed_file_is_known_by_content_and_mode(xen1: ThisNode) -> None:
    assert not xen1.is_deployed(HEARTBEAT)
    xen1.deploy(HEARTBEAT)
    assert xen1.is_deployed(HEARTBEAT)
    xen1.places.at("etc/ha.d/authkeys").chmod(0o644)
    assert not xen1.is_deployed(HEARTBEAT)


def test_trust_holds_the_peer_to_its_key_and_its_address(xen1: ThisNode) -> None:
    assert access.known_hosts(xen1) == ""
    join(xen1)
    assert access.known_hosts(xen1) == f"xen2,xen2.example.org,10.10.32.2 {KEY}\n"
    assert access.authorized_keys(xen1) == f'from="10.10.32.2" {KEY} root@xen2\n'


def test_administrators_come_from_the_config_and_from_the_seed_medium(cluster: Cluster, tmp_path: Path) -> None:
    keyed = cluster.model_copy(update={"admin": cluster.admin.model_copy(update={"ssh_keys": (f"{KEY} me",)})})
    node = this_node(keyed, "xen1", tmp_path)
    node.places.seed_keys.parent.mkdir(parents=True)
    node.places.seed_keys.write_text(f"{KEY} lab\n")
    assert access.authorized_keys(node) == f"{KEY} me\n{KEY} lab\n"


@pytest.mark.usefixtures("real_programs")
def test_a_key_that_exists_is_never_made_again(tmp_path: Path) -> None:
    key = tmp_path / "ssh" / "key"
    access.make_key(key, "comment")
    first = key.read_text()
    access.make_key(key, "comment")
    assert key.read_text() == first
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("real_programs")
@pytest.mark.parametrize("left", [None, ""])
def test_a_key_whose_public_half_the_power_cut_gets_it_back(tmp_path: Path, left: str | None) -> None:
    key = tmp_path / "key"
    access.make_key(key, "comment")
    assert access.has_key(key)
    public = (tmp_path / "key.pub").read_text().split()[:2]
    (tmp_path / "key.pub").unlink()
    if left is not None:
        (tmp_path / "key.pub").write_text(left)
    assert not access.has_key(key)
    access.make_key(key, "comment")
    assert (tmp_path / "key.pub").read_text().split()[:2] == public


@pytest.mark.usefixtures("real_programs")
def test_making_a_key_leaves_the_pair_and_nothing_else(tmp_path: Path) -> None:
    access.make_key(tmp_path / "key", "comment")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.pub"]


@pytest.mark.usefixtures("real_programs")
def test_what_a_power_cut_has_left_of_a_key_goes_away(tmp_path: Path) -> None:
    (tmp_path / ".new-key-abc").mkdir()
    (tmp_path / ".new-key-abc" / "key").write_text("half")
    (tmp_path / ".key.abcd").write_text("half")
    (tmp_path / "authorized_keys").touch()
    access.make_key(tmp_path / "key", "comment")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authorized_keys", "key", "key.pub"]


def test_the_brief_is_read_as_it_was_written(cluster: Cluster, tmp_path: Path) -> None:
    brief = Brief.of(cluster, cluster.node("xen2"))
    brief.write(tmp_path / "brief.json")
    assert read_brief(tmp_path / "brief.json") == brief
    assert (brief.peer, brief.first, brief.resource) == ("xen1", False, "r0")
    assert read_brief(tmp_path / "none.json") is None


@pytest.mark.parametrize("garbage", ["", "{", "[]", "{}", '{"node": 1, "guests": []}'])
def test_a_broken_brief_or_record_is_a_clear_stop(tmp_path: Path, garbage: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(garbage)
    for read in (read_brief, both_fresh):
        with pytest.raises(NodeError, match=r"file\.json is not what first boot has written"):
            read(path)


def test_the_initial_sync_is_only_ever_skipped_before_first_boot_is_done(xen1: ThisNode) -> None:
    assert recorded_sync(xen1.places) is InitialSync.AS_RECORDED
    join(xen1)
    assert recorded_sync(xen1.places) is InitialSync.SKIP
    xen1.places.formed.write_text("xen1\n")
    assert recorded_sync(xen1.places) is InitialSync.AS_RECORDED
