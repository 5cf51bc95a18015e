"""What a formed pair has to be. `invoke verify` asks the same of any two hosts."""

from __future__ import annotations

import json
import re

import pytest

from firstboot.probe.drbd import parse_proc_drbd
from firstboot.probe.xen import parse_xl_info
from images.grub import check_default_is_xen
from tests.lab.conftest import Server, Servers
from tests.lab.expected_warnings import unexpected

pytestmark = pytest.mark.lab


def test_xen_runs_below(server: Server) -> None:
    assert server.ask("cat /sys/hypervisor/type") == "xen"
    assert parse_xl_info(server.ask("xl info"))["xen_major"] == "4"


def test_xen_is_the_boot_loaders_default(server: Server) -> None:
    root = server.ask("findmnt -no UUID /")
    check_default_is_xen(server.ask("cat /boot/grub/grub.cfg"), root, lambda path: server.host.file(path).is_file)


def test_xen_stays_the_default_when_debian_rewrites_the_boot_menu(servers: Servers) -> None:
    server = servers.first
    root = server.ask("findmnt -no UUID /")
    server.ask("grub-mkconfig -o /run/grub.cfg")
    check_default_is_xen(server.ask("cat /run/grub.cfg"), root, lambda path: server.host.file(path).is_file)


def test_dom0_has_the_memory_that_the_config_gives_it(server: Server) -> None:
    domains = json.loads(server.ask("xl list -l"))
    assert domains[0]["config"]["b_info"]["max_memkb"] << 10 == server.cluster.dom0.memory


def test_both_cards_are_configured(server: Server) -> None:
    links = json.loads(server.ask("ip -json -4 address"))
    by_name = {link["ifname"]: {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]} for link in links}
    cards = {link["address"]: link for link in json.loads(server.ask("ip -json link")) if link["ifname"] != "xenbr0"}
    assert str(server.node.addresses.cluster) in by_name[cards[server.node.nics.cluster]["ifname"]]
    assert str(server.node.addresses.guest) in by_name[server.cluster.network.bridge]
    assert cards[server.node.nics.guest]["master"] == server.cluster.network.bridge


def test_host_names(server: Server) -> None:
    assert server.ask("uname -n") == server.node.name
    assert server.ask(f"getent hosts {server.peer.name}").split()[0] == str(server.peer.addresses.cluster.ip)
    assert server.ask(f"getent hosts {server.node.name}").split()[0] == str(server.node.addresses.cluster.ip)
    assert re.search(r"^hosts:\s+files dns$", server.ask("cat /etc/nsswitch.conf"), re.MULTILINE)


def test_replication_comes_in_on_the_cluster_link_only(server: Server) -> None:
    rules = server.ask("nft list table inet xenpair")
    assert "policy drop" in rules
    card = server.ask("ip -json link | tr -d '\\n'")
    name = next(link["ifname"] for link in json.loads(card) if link["address"] == server.node.nics.cluster)
    for port in (server.cluster.storage.drbd.port, server.cluster.network.join_port):
        assert {line.strip().split()[1] for line in rules.splitlines() if str(port) in line} == {f'"{name}"'}


def test_drbd_is_primary_and_up_to_date_on_both_sides(server: Server) -> None:
    state = parse_proc_drbd(server.ask("cat /proc/drbd"))
    assert (state.connection, state.role, state.peer_role) == ("Connected", "Primary", "Primary")
    assert (state.disk, state.peer_disk) == ("UpToDate", "UpToDate")
    assert state.out_of_sync == 0


def test_drbd_runs_with_the_settings_of_the_design(server: Server) -> None:
    shown = server.ask(f"drbdsetup show {server.cluster.storage.drbd.resource} --show-defaults")
    running = {" ".join(line.partition(";")[0].split()) for line in shown.splitlines()}
    assert running >= {
        "protocol C",
        "allow-two-primaries yes",
        'cram-hmac-alg "sha256"',
        'verify-alg "crc32c"',
        "after-sb-0pri discard-zero-changes",
        "after-sb-1pri consensus",
        "after-sb-2pri disconnect",
        "rr-conflict disconnect",
        "fencing resource-and-stonith",
        "on-io-error detach",
        "on-no-data-accessible suspend-io",
    }


def test_debians_own_units_for_drbd_and_domains_stay_off(server: Server) -> None:
    for unit in ("drbd.service", "xendomains.service"):
        assert server.host.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked"


def test_dom0_comes_before_all_guests_in_xens_eyes(server: Server) -> None:
    row = server.ask("xl sched-credit2 -d Domain-0").splitlines()[-1]
    assert row.split() == ["Domain-0", "0", "2048", "0"]


def test_lvm_does_not_see_the_backing_partition(server: Server) -> None:
    rows = json.loads(server.ask("pvs --all --reportformat json -o pv_name,vg_name"))["report"][0]["pv"]
    assert rows == [{"pv_name": "/dev/drbd0", "vg_name": server.cluster.storage.volume_group}]


def test_both_nodes_see_the_same_volume_group(servers: Servers) -> None:
    command = "vgs --noheadings -o vg_name,vg_uuid,vg_seqno"
    assert servers.first.ask(command).split() == servers.second.ask(command).split()


@pytest.mark.parametrize("direction", ["first-to-second", "second-to-first"])
def test_what_one_node_writes_the_other_reads(servers: Servers, direction: str) -> None:
    writer, reader = tuple(servers) if direction == "first-to-second" else tuple(servers)[::-1]
    group = writer.cluster.storage.volume_group
    volume = f"{group}/xenpair-verify"
    writer.ask(f"/usr/sbin/lvcreate --yes --wipesignatures y --size 8M --name xenpair-verify {group}")
    try:
        reader.ask(f"lvchange --activate y {volume}")
        written = writer.ask(
            "head -c 4M /dev/urandom > /run/verify && sha256sum < /run/verify"
            f" && dd if=/run/verify of=/dev/{volume} oflag=direct bs=1M status=none"
        )
        assert reader.ask(f"dd if=/dev/{volume} iflag=direct bs=1M count=4 status=none | sha256sum") == written
    finally:
        reader.ask(f"lvchange --activate n {volume}")
        writer.ask(f"/usr/sbin/lvremove --yes {volume}; rm -f /run/verify")


def test_heartbeat_sees_both_nodes(server: Server) -> None:
    for node in (server.node.name, server.peer.name):
        assert server.ask(f"cl_status nodestatus {node}") == "active"


def test_heartbeat_has_two_independent_links(server: Server) -> None:
    links = server.ask(f"cl_status listhblinks {server.peer.name}").split()
    assert len(set(links)) == 2
    for link in links:
        assert server.ask(f"cl_status hblinkstatus {server.peer.name} {link}") == "up"


def test_secrets_are_readable_by_root_alone(server: Server) -> None:
    for path in ("/etc/ha.d/authkeys", "/etc/drbd.d/xenpair.res", "/etc/xenpair/secrets.yaml", "/root/.ssh/id_ed25519"):
        file = server.host.file(path)
        assert (file.user, file.mode) == ("root", 0o600)


def test_both_nodes_run_heartbeat_with_the_same_files(servers: Servers) -> None:
    command = "sha256sum /etc/ha.d/authkeys /etc/ha.d/haresources /etc/hosts /etc/drbd.d/xenpair.res"
    assert servers.first.ask(command) == servers.second.ask(command)


def test_root_reaches_the_peer_without_a_prompt(server: Server) -> None:
    options = "-o BatchMode=yes -o StrictHostKeyChecking=yes"
    assert server.ask(f"ssh {options} {server.peer.name} uname -n") == server.peer.name


def test_no_password_opens_the_door(server: Server) -> None:
    settings = server.ask("sshd -T")
    assert "passwordauthentication no" in settings
    assert "kbdinteractiveauthentication no" in settings
    assert server.ask("passwd --status root").split()[1] == "L"


def test_no_unit_has_failed(server: Server) -> None:
    assert server.ask("systemctl list-units --failed --no-legend --plain") == ""


def test_a_boot_warns_of_nothing_unexpected(server: Server) -> None:
    lines = server.ask("journalctl --boot --priority warning --output short-monotonic --no-hostname --quiet")
    assert unexpected(lines) == []


def test_status_says_healthy(server: Server) -> None:
    status = json.loads(server.ask("xenpair status --json"))
    assert status["node"] == server.node.name
    assert status["firstboot"]["state"] == "done"
    assert status["drbd"]["connection"] == "Connected"
    assert status["lvm"]["volume_group"] == server.cluster.storage.volume_group
    assert status["heartbeat"]["state"] == "up"
    assert status["fencing"] == {"state": "ready", "reason": ""}


def test_heartbeat_would_ask_our_plugin_to_fence(server: Server) -> None:
    plugin = f"stonith -t external/xenpair peer={server.peer.name}"
    assert server.ask(f"{plugin} -l").splitlines()[-1].strip() == server.peer.name
    server.ask(f"{plugin} -S")
    assert f"stonith_host {server.node.name} external/xenpair {server.peer.name}" in server.ask("cat /etc/ha.d/ha.cf")


def test_no_bmc_password_stands_where_it_should_not(server: Server) -> None:
    passwords = [line.split()[-1] for line in server.ask("grep '^  bmc-' /etc/xenpair/secrets.yaml").splitlines()]
    assert len(passwords) == 2
    for password in passwords:
        found = server.host.run(f"grep -rlF {password} /etc /var/log /run /usr/lib/xenpair")
        assert set(found.stdout.split()) <= {"/etc/xenpair/secrets.yaml", "/etc/xenpair/fencing.json"}
    assert server.host.file("/etc/xenpair/fencing.json").mode == 0o600


def test_the_plan_is_all_done(server: Server) -> None:
    states = {line.split()[1] for line in server.ask("xenpair plan").splitlines()}
    assert states == {"done"}
