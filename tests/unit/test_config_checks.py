"""One case for each check: the example, changed in one way, and the finding that must come of it."""

from pathlib import Path

import pytest

from config import checks
from config.findings import ConfigError, Finding
from config.loader import load
from tests.unit.debian_faults import DEBIAN_ERRORS
from tests.unit.guest_faults import GUEST_ERRORS, Case, Change, guest, guests, network

EXAMPLE = Path("config/cluster.yaml").read_text(encoding="utf-8")
GUEST = "guests: [{name: web01, memory: 512M, disk: 1G, home: xen1}]"
SYSTEM = 'system: {serial: "system-*"}'
BACKING = 'backing: {serial: "data-*", min_size: 4G}'
MAC_1, MAC_2 = 'match: {mac: "52:54:00:10:32:01"}', 'match: {mac: "52:54:00:10:32:02"}'
NODE_2 = "  - name: xen2"
BMC_1, BMC_2 = (f"bmc: {{address: 192.168.132.24{i}, user: xenpair, password: secret:bmc-xen{i}}}" for i in (1, 2))
NO_BMC = [(BMC_1, ""), (BMC_2, "")]
SECOND = EXAMPLE[EXAMPLE.index(NODE_2) : EXAMPLE.index("storage:")]


def mutated(*changes: Change) -> str:
    text = EXAMPLE
    for old, new in changes:
        assert old in text, f"the example no longer has {old!r}"
        text = text.replace(old, new, 1)
    return text


def findings(path: Path, text: str) -> list[Finding]:
    file = path / "cluster.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        return list(load(file).warnings)
    except ConfigError as e:
        return list(e.findings)


def wiped(criterion: str) -> Change:
    return MAC_1, f"{MAC_1}\n    disks: {{backing: {{{criterion}, wipe: true}}}}"


PAIR = "raid1: true, serial: [data-1, data-2]"


def mirrored(criteria: str) -> Change:
    return MAC_1, f"{MAC_1}\n    disks: {{backing: {{raid1: true, {criteria.removeprefix('raid1: true, ')}}}}}"


# check, changes, YAML path, a piece of the line it is reported at, words of the message
ERRORS: list[Case] = [
    ("two_nodes", [(SECOND, "")], "nodes", "nodes:", "there are 1"),
    ("two_nodes", [(SECOND, SECOND + SECOND.replace("xen2", "xen3"))], "nodes", "nodes:", "there are 3"),
    (
        "snapshot_is_kept_somewhere",
        [("suite: trixie", "suite: trixie\n  snapshot: 20260102T030405Z")],
        "debian.snapshot",
        "snapshot:",
        "no snapshot mirror is configured",
    ),
    ("names", [(NODE_2, "  - name: xen1")], "nodes[1].name", "name: xen1", "already the node name at nodes[0].name"),
    ("names", [(NODE_2, "  - name: localhost")], "nodes[1].name", "localhost", "every machine's name"),
    ("guest_names", [guests(guest("a"), guest("a"))], "guests[1].name", "guests:", "already the guest name"),
    ("guest_names", [guests(guest("xen2"))], "guests[0].name", "guests:", "name of a node"),
    ("guest_names", [guests(guest("pvmove0"))], "guests[0].name", "guests:", "LVM keeps"),
    ("guest_names", [guests(guest("snapshot"))], "guests[0].name", "guests:", "LVM keeps"),
    (
        "storage_names",
        [("volume_group: data", "volume_group: mapper")],
        "storage.volume_group",
        "mapper",
        "/dev/mapper",
    ),
    ("storage_names", [("resource: r0", "resource: all")], "storage.drbd.resource", "all", "every resource"),
    (
        "network_cards",
        [("00:13:20:02", "00:13:20:01")],
        "nodes[1].nics.guest",
        "guest: ",
        "52:54:00:13:20:01 is already the MAC address at nodes[0].nics.guest",
    ),
    (
        "network_cards",
        [('guest: "52:54:00:13:20:01"', 'guest: "52-54-00-10-32-01"')],
        "nodes[0].nics.guest",
        "guest: ",
        "already the MAC address at nodes[0].nics.cluster",
    ),
    ("match_rules", [(MAC_1, "match: {}")], "nodes[0].match", "match: {}", "every machine"),
    ("match_rules", [(MAC_1, "match: {mac: 52:54:00:13:20:02}")], "nodes[0].match.mac", "20:02}", "card of xen2"),
    ("match_rules_differ", [(MAC_2, MAC_1 + " ")], "nodes[1].match.mac", MAC_1 + " ", "same machine as xen1"),
    (
        "match_rules_differ",
        [(MAC_1, "match: {serial: A1}"), (MAC_2, "match: {serial: A1}")],
        "nodes[1].match.serial",
        "match: {serial: A1}",
        "same machine as xen1",
    ),
    (
        "match_rules_differ",
        [
            (MAC_1, "match: {uuid: 4c4c4544-0042-3510-8052-b4c04f564831}"),
            (MAC_2, "match: {uuid: 4C4C4544-0042-3510-8052-B4C04F564831}"),
        ],
        "nodes[1].match.uuid",
        "4C4C",
        "same machine as xen1",
    ),
    ("addresses_differ", [("10.10.32.2/24", "10.10.32.1/24")], "nodes[1].addresses.cluster", "cluster: 10", "already"),
    (
        "addresses_differ",
        [("  bridge: xenbr0", "  gateway: 192.168.132.2")],
        "network.gateway",
        "gateway",
        "own address at nodes[1].addresses.guest",
    ),
    (
        "bmc_addresses_differ",
        [("192.168.132.242", "192.168.132.241")],
        "nodes[1].bmc.address",
        "bmc-xen2",
        "192.168.132.241, port 623 is already the BMC address and port at nodes[0]",
    ),
    (
        "bmc_addresses_differ",
        [("192.168.132.242", "192.168.132.2")],
        "nodes[1].bmc.address",
        "bmc-xen2",
        "an address of xen2 itself",
    ),
    (
        "bmc_addresses_differ",
        [("  bridge: xenbr0", "  gateway: 192.168.132.242")],
        "nodes[1].bmc.address",
        "bmc-xen2",
        "192.168.132.242 is the gateway",
    ),
    ("usable_addresses", [("10.10.32.1/24", "10.10.32.1")], "nodes[0].addresses.cluster", "10.10.32.1", "no prefix"),
    ("usable_addresses", [("10.10.32.1/24", "10.10.32.0/24")], "nodes[0].addresses.cluster", "32.0/", "of the network"),
    ("usable_addresses", [("10.10.32.2/24", "10.10.32.255/24")], "nodes[1].addresses.cluster", "255/", "broadcast"),
    ("usable_addresses", [("10.10.32.1/24", "127.0.0.1/24")], "nodes[0].addresses.cluster", "127", "no address of a"),
    (
        "peers_share_networks",
        [("10.10.32.2/24", "10.10.33.2/24")],
        "nodes[1].addresses.cluster",
        "10.10.33",
        "not in 10.10.32.0/24, where xen1 is",
    ),
    (
        "peers_share_networks",
        [("192.168.132.2/24", "192.168.132.2/25")],
        "nodes[1].addresses.guest",
        "132.2/25",
        "/25, and xen1 has /24",
    ),
    ("links_are_apart", [("10.10.32.1/24", "192.168.0.1/16")], "nodes[0].addresses.guest", "132.1/24", "overlaps"),
    (
        "gateway_is_near",
        [("  bridge: xenbr0", "  gateway: 192.168.133.1")],
        "network.gateway",
        "gateway",
        "not in 192.168.132.0/24",
    ),
    (
        "gateway_is_near",
        [("  bridge: xenbr0", "  gateway: 192.168.132.255")],
        "network.gateway",
        "gateway",
        "no host of 192.168.132.0/24",
    ),
    ("bridge_name", [("xenbr0", "eth0")], "network.bridge", "eth0", "name that the kernel"),
    ("bridge_name", [("xenbr0", "enp3s0f1")], "network.bridge", "enp3s0f1", "name that the kernel"),
    ("ports_differ", [("resource: r0", "port: 694")], "storage.drbd.port", "694", "already the port at heartbeat.port"),
    ("ports_differ", [("  bridge: xenbr0", "  join_port: 7788")], "network.join_port", "7788", "at storage.drbd.port"),
    ("ports_differ", [("  bridge: xenbr0", "  join_port: 22")], "network.join_port", "22", "port of SSH"),
    ("heartbeat_warntime", [("warntime: 8", "warntime: 2")], "heartbeat.warntime", "warntime: 2", "every beat"),
    ("heartbeat_deadtime", [("deadtime: 20", "deadtime: 16")], "heartbeat.deadtime", "deadtime: 16", "more than twice"),
    ("heartbeat_initdead", [("initdead: 60", "initdead: 39")], "heartbeat.initdead", "initdead: 39", "less than twice"),
    ("guests_have_a_home", [guests(guest("a", home="xen11"))], "guests[0].home", "guests:", "did you mean xen1?"),
    ("guests_have_a_home", [guests(guest("a", home="mars"))], "guests[0].home", "guests:", "are xen1 and xen2"),
    (
        "memory_for_every_guest",
        [guests(guest("a", "1G"), guest("b", "1G", home="xen2"))],
        "nodes[1].memory",
        "memory: 3G",
        "3G where 3778M are needed: guests 2066M, dom0 1536M, Xen 176M",
    ),
    ("memory_for_every_guest", [("memory: 3G", "memory: 1G")], "nodes[0].memory", "memory: 1G", "xen1 must be able"),
    ("disk_rules", [(SYSTEM, "system: {}")], "storage.system", "system: {}", "matches every disk"),
    (
        "disk_rules",
        [("min_size: 4G", "min_size: 4G, max_size: 3G")],
        "storage.backing.min_size",
        "min_size",
        "more than max_size, 3G",
    ),
    ("wipe_names_a_disk", [("min_size: 4G", "wipe: true")], "storage.backing.wipe", "wipe", "holds for both nodes"),
    (
        "wipe_names_a_disk",
        [('system-*"}', 'system-*", wipe: true}')],
        "storage.system.wipe",
        "wipe",
        "nodes[].disks.sys",
    ),
    ("wipe_names_a_disk", [wiped("model: 'D*'")], "nodes[0].disks.backing.wipe", "wipe", "add its serial"),
    ("wipe_names_a_disk", [wiped("serial: 'data-*'")], "nodes[0].disks.backing.serial", "wipe", "can mean several"),
    ("wipe_names_a_disk", [wiped("serial: 'data-?'")], "nodes[0].disks.backing.serial", "wipe", "the exact serial"),
    ("wipe_names_a_disk", [wiped("serial: 'data-[1]'")], "nodes[0].disks.backing.serial", "wipe", "the exact serial"),
    (
        "wipe_names_a_disk",
        [wiped("serial: data-1"), (MAC_2, MAC_2 + "\n    disks: {backing: {serial: data-1, wipe: true}}")],
        "nodes[1].disks.backing.serial",
        "disks:",
        "to be wiped at nodes[0].disks.backing.serial already",
    ),
    ("wipe_names_a_disk", [mirrored("wipe: true")], "nodes[0].disks.backing.wipe", "wipe", "add both serials"),
    (
        "wipe_names_a_disk",
        [mirrored("serial: [data-1, 'data-2*'], wipe: true")],
        "nodes[0].disks.backing.serial",
        "wipe",
        "data-2* does not say which disks",
    ),
    (
        "wipe_names_a_disk",
        [wiped("serial: data-1"), (MAC_2, MAC_2 + "\n    disks: {backing: {" + PAIR + ", wipe: true}}")],
        "nodes[1].disks.backing.serial",
        "wipe",
        "data-1 is to be wiped at nodes[0]",
    ),
    (
        "mirrors_take_two_disks",
        [(BACKING, "backing: {serial: [data-1, data-2], min_size: 4G}")],
        "storage.backing.serial",
        "serial",
        "add raid1: true, or give one serial",
    ),
    (
        "mirrors_take_two_disks",
        [mirrored("serial: data-1")],
        "nodes[0].disks.backing.serial",
        "serial",
        "serial: [data-1, ...]",
    ),
    (
        "mirrors_take_two_disks",
        [mirrored("serial: [data-1, data-2, data-3]")],
        "nodes[0].disks.backing.serial",
        "serial",
        "3 serials, and raid1 takes exactly two",
    ),
    (
        "mirrors_take_two_disks",
        [mirrored("serial: [data-1, 'data-*']")],
        "nodes[0].disks.backing.serial",
        "serial",
        "data-1 and data-* can mean the same disk",
    ),
    (
        "mirrors_take_two_disks",
        [(BACKING, "backing: {raid1: true, wwn: '0x5000', min_size: 4G}")],
        "storage.backing.wwn",
        "wwn",
        "a world wide name is that of one disk",
    ),
    (
        "backing_is_not_system",
        [(BACKING, "backing: {raid1: true, serial: [data-1, system-2], min_size: 4G}")],
        "storage.backing",
        "backing:",
        "the same disk",
    ),
    ("backing_is_not_system", [(SYSTEM, "system: {max_size: 8G}")], "storage.backing", "backing:", "the same disk"),
    ("backing_is_not_system", [(SYSTEM, "system: {model: X}")], "storage.backing", "backing:", "the same disk"),
    ("backing_is_not_system", [(SYSTEM, 'system: {serial: "*-1"}')], "storage.backing", "backing:", "the same disk"),
    (
        "backing_is_not_system",
        [(MAC_2, MAC_2 + "\n    disks: {backing: {serial: 'system-9'}}")],
        "nodes[1].disks.backing",
        "disks:",
        "the same disk",
    ),
    (
        "backing_is_not_system",
        [(MAC_2, MAC_2 + "\n    disks: {system: {serial: 'data-9'}}")],
        "storage.backing",
        "backing:",
        "the system rule of xen2",
    ),
    (
        "disks_for_every_guest",
        [guests(guest("a", disk="4G"))],
        "guests",
        "guests:",
        "take 4096M, and a disk of min_size",
    ),
    ("fencing", [(BMC_2, "")], "nodes[1]", NODE_2, "xen2 has no bmc"),
    *GUEST_ERRORS,
    *DEBIAN_ERRORS,
]
WARNINGS: list[Case] = [
    ("fencing", NO_BMC, "nodes", "nodes:", "no bmc: nothing can be fenced"),
    ("administrators", [], "admin.ssh_keys", "ssh_keys", "nobody will be able to log in"),
    ("heartbeat_warntime", [("warntime: 8", "warntime: 3")], "heartbeat.warntime", "warntime: 3", "two keepalives"),
    (
        "disks_for_every_guest",
        [(BACKING, "backing: {serial: data-1}"), ("guests: []", GUEST)],
        "storage.backing",
        "backing:",
        "no min_size",
    ),
]


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: f"{case[0]}-{case[2]}")
def test_a_fault_is_reported_at_its_place(case: Case, tmp_path: Path) -> None:
    assert_found(case, "error", tmp_path)


@pytest.mark.parametrize("case", WARNINGS, ids=lambda case: f"{case[0]}-{case[2]}")
def test_a_doubt_is_a_warning(case: Case, tmp_path: Path) -> None:
    assert_found(case, "warning", tmp_path)


def assert_found(case: Case, severity: str, tmp_path: Path) -> None:
    _, changes, path, piece, words = case
    text = mutated(*changes)
    found = [f for f in findings(tmp_path, text) if f.path == path and words in f.problem + f.remedy]
    assert [f.severity for f in found] == [severity], findings(tmp_path, text)
    assert found[0].line is not None
    assert piece in text.splitlines()[found[0].line - 1]
    assert found[0].remedy


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: f"{case[0]}-{case[2]}")
def test_one_fault_is_not_reported_by_unrelated_checks(case: Case, tmp_path: Path) -> None:
    errors = [f for f in findings(tmp_path, mutated(*case[1])) if f.severity == "error"]
    # A node too many repeats every value of a node; a duplicate is one fault in the eyes of two checks at most.
    assert len(errors) <= (10 if case[0] == "two_nodes" else 2), errors


def test_every_check_has_a_case() -> None:
    assert {case[0] for case in ERRORS + WARNINGS} == {check.__name__ for check in checks.CHECKS}


ALLOWED: list[tuple[str, list[Change]]] = [
    ("the cluster has a node's name", [("  name: xenpair", "  name: xen1")]),
    ("a node is matched by its guest card", [(MAC_1, "match: {mac: 52:54:00:13:20:01}")]),
    (
        "one serial for two machines that MACs tell apart",
        [
            (MAC_1, 'match: {serial: None, mac: "52:54:00:10:32:01"}'),
            (MAC_2, 'match: {serial: None, mac: "52:54:00:10:32:02"}'),
        ],
    ),
    ("a network of two", [("10.10.32.1/24", "10.10.32.0/31"), ("10.10.32.2/24", "10.10.32.1/31")]),
    ("sizes tell the disks apart", [(SYSTEM, "system: {max_size: 3G}")]),
    ("wwn tells the disks apart", [(SYSTEM, "system: {wwn: '0x1'}"), (BACKING, "backing: {wwn: '0x2', min_size: 4G}")]),
    ("no node has a BMC", NO_BMC),
    ("BMCs on a network of their own", [("192.168.132.241", "10.9.9.1"), ("192.168.132.242", "10.9.9.2")]),
    (
        "two BMCs behind one address",
        [("192.168.132.242", "192.168.132.241, port: 624")],
    ),
    ("a gateway", [("  bridge: xenbr0", "  gateway: 192.168.132.254")]),
    ("as much memory as there is", [guests(guest("a", "1340M"))]),
    ("one disk is wiped, by its serial", [wiped("serial: data-xen1")]),
    ("a mirrored pair is wiped, by both serials", [mirrored(f"{PAIR}, wipe: true")]),
    ("a mirrored pair by one pattern", [(BACKING, 'backing: {raid1: true, serial: "data-*", min_size: 4G}')]),
    ("a mirrored system by one pattern", [(SYSTEM, 'system: {raid1: true, serial: "system-*"}')]),
    ("a mirrored system by size", [(SYSTEM, "system: {raid1: true, max_size: 3G}")]),
    ("a mirrored pair by two patterns", [mirrored("serial: ['data-a*', 'data-b*']")]),
    (
        "a mirrored pair by size",
        [(SYSTEM, "system: {max_size: 3G}"), (BACKING, "backing: {raid1: true, min_size: 4G}")],
    ),
    (
        "the dom0's disk is wiped, by its serial",
        [(MAC_1, f"{MAC_1}\n    disks: {{system: {{serial: system-xen1, wipe: true}}}}")],
    ),
    ("a wipe that is not meant", [("min_size: 4G", "min_size: 4G, wipe: false")]),
    ("as much disk as there is", [guests(guest("a", disk="4092M"))]),
    ("a PV guest", [guests(guest("a", more="type: pv"))]),
    ("two guests from one file", [guests(*(guest(name, more="install: {image: a.img}") for name in "ab"))]),
    ("a guest with its own kernel", [guests(guest("a", more="boot: {by: guest}, install: {image: /srv/a.img}"))]),
    (
        "a guest with a kernel from the nodes",
        [guests(guest("a", more="boot: {kernel: vmlinuz, arguments: quiet x=1}"))],
    ),
    ("a guest on another network", [guests(network("a", "bridge: br7, address: 10.7.0.9/16, gateway: 10.7.255.254"))]),
    ("further settings", [guests(guest("a", more="options: {tsc_mode: native, cpus: '0-3,^1'}"))]),
    ("paths that differ in case", [guests(*(guest(f, more=f"boot: {{kernel: /k/{f}}}") for f in ("a", "b")))]),
]


@pytest.mark.parametrize("changes", [c for _, c in ALLOWED], ids=[name for name, _ in ALLOWED])
def test_what_is_unusual_and_right_is_allowed(changes: list[Change], tmp_path: Path) -> None:
    assert [f for f in findings(tmp_path, mutated(*changes)) if f.severity == "error"] == []


@pytest.mark.parametrize(("disk", "fits"), [("4092M", True), ("4093M", False)])
def test_the_guests_may_fill_the_volume_group_to_its_last_extent(disk: str, fits: bool, tmp_path: Path) -> None:
    errors = [f for f in findings(tmp_path, mutated(guests(guest("a", disk=disk)))) if f.severity == "error"]
    assert (errors == []) is fits


@pytest.mark.parametrize("word", ["yes", "True", "1", "y"])
def test_only_true_means_that_a_disk_is_wiped(word: str, tmp_path: Path) -> None:
    text = mutated((MAC_1, f"{MAC_1}\n    disks: {{backing: {{serial: data-1, wipe: {word}}}}}"))
    found = [f for f in findings(tmp_path, text) if f.path == "nodes[0].disks.backing.wipe"]
    assert [f.remedy for f in found] == ["write true or false"]


def test_the_rule_that_two_nodes_share_is_reported_once(tmp_path: Path) -> None:
    found = findings(tmp_path, mutated((SYSTEM, "system: {serial: 'data-1'}")))
    assert [f.path for f in found if f.severity == "error"] == ["storage.backing"]


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        ((NODE_2, "  - nam: xen2"), "nodes[1].nam"),
        (("memory: 3G", "memory: three"), "nodes[0].memory"),
        (("keepalive: 2", "keepalive: two"), "heartbeat.keepalive"),
        (("admin:", "adnim:"), "adnim"),
        ((SYSTEM, "system: 7"), "storage.system"),
    ],
)
def test_a_value_that_does_not_validate_hides_no_other_fault(broken: Change, path: str, tmp_path: Path) -> None:
    text = mutated(broken, ("192.168.132.2/24", "192.168.132.1/24"), ("initdead: 60", "initdead: 30"))
    paths = [f.path for f in findings(tmp_path, text)]
    assert path in paths
    assert "nodes[1].addresses.guest" in paths
    assert "heartbeat.initdead" in paths


def test_a_value_that_does_not_validate_is_not_replaced_by_its_default(tmp_path: Path) -> None:
    text = mutated(("deadtime: 20", "deadtime: soon"), ("warntime: 8", "warntime: 12"))
    assert [f.path for f in findings(tmp_path, text) if f.severity == "error"] == ["heartbeat.deadtime"]
