"""From the config to the virtual servers: QEMU's command lines, disks, the gateway's addresses."""

from ipaddress import IPv4Address
from itertools import pairwise
from typing import Any

import pytest

from config.model import Cluster
from lab import machine, network
from lab.errors import LabError
from lab.media import Firmware, Via


def cluster(**changes: Any) -> Cluster:
    def node(number: int) -> dict[str, Any]:
        return {
            "name": f"xen{number}",
            "match": {"mac": f"52:54:00:10:32:0{number}"},
            "nics": {"guest": f"52:54:00:13:20:0{number}", "cluster": f"52:54:00:10:32:0{number}"},
            "addresses": {"guest": f"192.168.132.{number}/24", "cluster": f"10.10.32.{number}/24"},
            "memory": "3G",
        }

    nodes = [node(1) | changes.pop("xen1", {}), node(2)]
    storage = {"system": {"serial": "system-*"}, "backing": {"serial": "data-*"}} | changes.pop("storage", {})
    return Cluster.model_validate(
        {"cluster": {"name": "t", "domain": "example.org"}, "nodes": nodes, "storage": storage} | changes
    )


def argv(config: Cluster, **options: Any) -> list[str]:
    defaults: dict[str, Any] = {"firmware": "bios", "accelerator": "tcg", "seed": True}
    return machine.argv(config, config.nodes[0], **(defaults | options))


def values(args: list[str], flag: str) -> list[str]:
    return [value for key, value in pairwise(args) if key == flag]


def test_a_node_gets_the_memory_cards_and_disks_of_the_config() -> None:
    args = argv(cluster())
    assert values(args, "-m") == ["3072M"]
    assert values(args, "-device") == [
        "virtio-blk-pci,id=disk-system,drive=system,serial=system-xen1,bootindex=0",
        "virtio-blk-pci,id=disk-backing,drive=backing,serial=data-xen1",
        "virtio-blk-pci,id=disk-seed,drive=seed,serial=seed",
        "virtio-net-pci,id=guest,netdev=net-guest,mac=52:54:00:13:20:01,romfile=",
        "virtio-net-pci,id=cluster,netdev=net-cluster,mac=52:54:00:10:32:01,romfile=",
        "virtio-rng-pci",
    ]


def test_the_cards_end_at_the_switch_s_sockets_by_names_that_any_directory_leaves_short() -> None:
    assert values(argv(cluster()), "-netdev") == [
        "dgram,id=net-guest,local.type=unix,local.path=guest-xen1.nic,remote.type=unix,remote.path=guest-xen1.switch",
        "dgram,id=net-cluster,local.type=unix,local.path=cluster-xen1.nic,"
        "remote.type=unix,remote.path=cluster-xen1.switch",
    ]


def test_tcg_hides_what_a_pv_dom0_dies_of() -> None:
    assert values(argv(cluster()), "-cpu") == ["max,-smap,-smep,-la57,-xsave,-avx,-avx2,-f16c,-fma,-pku,-mpx"]
    assert values(argv(cluster(), accelerator="kvm"), "-cpu") == ["host"]


def test_uefi_adds_the_firmware_and_the_node_s_own_variables() -> None:
    assert "pflash" not in " ".join(argv(cluster()))
    drives = values(argv(cluster(), firmware="uefi"), "-drive")
    assert drives[:2] == [
        "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
        "if=pflash,unit=1,format=qcow2,file=xen1-vars.qcow2",
    ]


def test_a_node_may_reboot_by_itself_and_has_no_seed_unless_asked() -> None:
    args = argv(cluster(), seed=False)
    assert "-no-reboot" not in args
    assert "seed" not in " ".join(args)


def test_a_match_by_serial_or_uuid_becomes_the_machine_s_identity() -> None:
    uuid = "00000000-0000-4000-8000-000000000001"
    args = argv(cluster(xen1={"match": {"serial": "AB,12", "uuid": uuid}}))
    assert values(args, "-smbios") == [f"type=1,serial=AB,,12,uuid={uuid}"]
    assert values(argv(cluster()), "-smbios") == []


def test_a_disk_is_as_large_as_its_rule_wants() -> None:
    config = cluster(storage={"system": {"serial": "s-*"}, "backing": {"serial": "d-*", "min_size": "5G"}})
    node = config.nodes[0]
    assert machine.disk(config, node, "system").size == machine.SYSTEM_SIZE
    assert machine.disk(config, node, "backing").size == 5 << 30
    small = cluster(storage={"backing": {"max_size": "1G"}})
    assert machine.disk(small, small.nodes[0], "backing").size == 1 << 30


def test_a_mirrored_rule_gives_a_node_two_disks_that_fit_it() -> None:
    config = cluster(storage={"system": {"serial": "s-*"}, "backing": {"raid1": "true", "serial": "d-*"}})
    assert [one.serial for one in machine.disks(config, config.nodes[0])] == ["s-xen1", "d-xen1-a", "d-xen1-b"]
    devices = [word for word in values(argv(config), "-device") if "disk-backing" in word]
    assert [word.split(",", 1)[1] for word in devices] == [
        "id=disk-backing,drive=backing,serial=d-xen1-a",
        "id=disk-backing-b,drive=backing-b,serial=d-xen1-b",
    ]
    each = cluster(storage={"system": {"serial": "s-*"}, "backing": {"raid1": "true", "serial": ["A1", "B-*"]}})
    assert [one.serial for one in machine.disks(each, each.nodes[0])[1:]] == ["A1", "B-xen1"]
    by_size = cluster(storage={"system": {"raid1": "true", "max_size": "7G"}, "backing": {"min_size": "8G"}})
    found = machine.disks(by_size, by_size.nodes[0], empty=True)
    assert [one.serial for one in found] == ["system-xen1-a", "backing-xen1", "system-xen1-b"]
    assert found[0].size == found[2].size == machine.EMPTY_SYSTEM_SIZE


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"raid1": "true", "serial": ["d-0", "d-?"]}, "backing disks would have the same serial, 'd-0'"),
        ({"wwn": "0x5000"}, "asks for a wwn"),
        ({"model": "SSD*"}, "asks for a model"),
        ({"serial": "a-very-long-serial-of-*"}, "longer than a virtio disk's 20 bytes"),
        ({"serial": "system-*"}, "the same serial"),
    ],
)
def test_a_rule_that_no_virtio_disk_satisfies_is_refused(rule: dict[str, str], message: str) -> None:
    with pytest.raises(LabError, match=message):
        machine.check(cluster(storage={"backing": rule}))


def test_a_match_by_a_third_card_is_refused() -> None:
    with pytest.raises(LabError, match="neither of its two cards"):
        machine.check(cluster(xen1={"match": {"mac": "52:54:00:99:99:99"}}))


def test_more_memory_than_the_host_has_is_refused() -> None:
    machine.check_memory(cluster(), 6 << 30)
    with pytest.raises(LabError, match="want 6G of memory, and this host has 6143M"):
        machine.check_memory(cluster(), (6 << 30) - 1)


def test_the_gateway_leads_to_each_node_s_ssh_and_out_to_nowhere() -> None:
    user = values(network.gateway_argv(cluster(), {"xen1": 4001, "xen2": 4002}, qmp="g.qmp"), "-netdev")[0]
    assert user == (
        "user,id=user,net=192.168.132.0/24,host=192.168.132.254,dns=192.168.132.253,ipv6=off,restrict=on,"
        "hostfwd=tcp:127.0.0.1:4001-192.168.132.1:22,hostfwd=tcp:127.0.0.1:4002-192.168.132.2:22"
    )


def test_the_gateway_takes_the_config_s_gateway_address_and_never_a_node_s_or_a_bmc_s() -> None:
    named = cluster(network={"gateway": "192.168.132.9"})
    assert str(network.gateway_addresses(named)[0]) == "192.168.132.9"
    elsewhere = cluster(network={"gateway": "10.0.0.1"})
    assert str(network.gateway_addresses(elsewhere)[0]) == "192.168.132.254"
    top = {"addresses": {"guest": "192.168.132.254/24", "cluster": "10.10.32.1/24"}}
    assert [str(a) for a in network.gateway_addresses(cluster(xen1=top))] == ["192.168.132.253", "192.168.132.252"]
    bmc = {"bmc": {"address": "192.168.132.253", "user": "u", "password": "secret:b"}}
    assert [str(a) for a in network.gateway_addresses(cluster(xen1=bmc))] == ["192.168.132.254", "192.168.132.252"]


def test_a_guest_network_without_room_for_the_gateway_is_refused() -> None:
    tight = {"addresses": {"guest": "192.168.132.1/30", "cluster": "10.10.32.1/24"}}
    with pytest.raises(LabError, match="no room for the lab's gateway"):
        network.gateway_addresses(cluster(xen1=tight))


def test_free_ports_are_different_and_free() -> None:
    ports = network.free_ports(5)
    assert len(set(ports)) == 5
    assert all(port > 1023 for port in ports)


def test_a_machine_that_goes_on_from_a_snapshot_is_held_until_both_are_there() -> None:
    assert "-loadvm" not in argv(cluster())
    args = argv(cluster(), snapshot="formed")
    assert args[args.index("-S") :] == ["-S", "-loadvm", "formed"]


def test_a_failing_disk_lets_so_many_writes_pass_and_no_other_disk_fails() -> None:
    system, backing = (dict(part.split("=", 1) for part in d.split(",")) for d in failing_drives(fails_after=2))
    assert "file.driver" not in system
    assert (backing["format"], backing["file.driver"]) == ("qcow2", "blkdebug")
    assert backing["file.image.filename"] == "xen1-backing.qcow2"
    # blkdebug begins in state 1; each write leads to the next state, and in the last one writes fail.
    steps = [(backing[f"file.set-state.{n}.state"], backing[f"file.set-state.{n}.new_state"]) for n in range(2)]
    assert steps == [("1", "2"), ("2", "3")]
    assert backing["file.inject-error.0.state"] == "3"
    assert "file.set-state.2.state" not in backing


def failing_drives(**options: Any) -> list[str]:
    return [drive for drive in values(argv(cluster(), **options), "-drive") if "id=seed" not in drive]


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
@pytest.mark.parametrize("via", ["usb", "cd", "pxe"])
def test_both_disks_of_the_system_boot_before_the_medium_but_for_a_stick_on_bios(via: Via, firmware: Firmware) -> None:
    config = cluster(storage={"system": {"raid1": "true", "serial": "s-*"}, "backing": {"serial": "d-*"}})
    devices = values(argv(config, seed=False, via=via, firmware=firmware), "-device")
    order = {device[-1]: device.partition(",")[0] for device in devices if "bootindex=" in device}
    disks, medium = ["virtio-blk-pci"] * 2, {"usb": "usb-storage", "cd": "ide-cd", "pxe": "virtio-net-pci"}[via]
    expected = [medium, *disks] if (via, firmware) == ("usb", "bios") else [*disks, medium]
    assert order == dict(zip("012", expected, strict=True))


def test_a_stick_is_removable_and_nobody_writes_to_a_medium() -> None:
    args = argv(cluster(), seed=False, via="usb")
    assert "if=none,id=medium,format=raw,readonly=on,file=medium.iso" in values(args, "-drive")
    assert "usb-storage,id=disk-medium,bus=xhci.0,drive=medium,removable=on,bootindex=0" in values(args, "-device")


@pytest.mark.parametrize(("firmware", "rom"), [("bios", ""), ("uefi", "romfile=,")])
def test_only_the_guest_card_boots_from_the_network(firmware: Firmware, rom: str) -> None:
    cards = [d for d in values(argv(cluster(), via="pxe", firmware=firmware), "-device") if "net-pci" in d]
    assert [card.partition("mac=")[2] for card in cards] == [
        f"52:54:00:13:20:01,{rom}bootindex=2",
        "52:54:00:10:32:01,romfile=",
    ]


def test_an_empty_system_disk_is_larger_than_the_image_is() -> None:
    node = cluster().nodes[0]
    assert machine.disk(cluster(), node, "system", empty=True).size == 6 << 30
    assert machine.disk(cluster(), node, "backing", empty=True).size == machine.BACKING_SIZE


def test_the_install_server_has_a_cable_and_an_address_of_its_own() -> None:
    assert set(network.cables(cluster(), "pxe")) - set(network.cables(cluster())) == {network.SERVER}
    assert network.cables(cluster(), "usb") == network.cables(cluster())
    assert network.server_address(cluster()) not in network.gateway_addresses(cluster())


def test_a_machine_that_is_being_installed_ends_at_its_reset_and_no_other() -> None:
    assert "-no-reboot" in argv(cluster(), via="usb", ends_at_reset=True)
    assert "-no-reboot" not in argv(cluster(), via="usb")


def test_machines_that_boot_over_the_network_get_no_address_of_the_config_and_their_page_is_seen_from_the_host() -> (
    None
):
    # Where QEMU's DHCP would begin by itself.
    low = {"addresses": {"guest": "192.168.132.15/24", "cluster": "10.10.32.1/24"}}
    argv = network.gateway_argv(cluster(xen1=low), {"xen1": 1, "xen2": 2}, qmp="g.qmp", page=3)
    (user,) = (value for value in values(argv, "-netdev") if value.startswith("user,"))
    options = user.split(",")
    assert "hostfwd=tcp:127.0.0.1:3-192.168.132.252:8088" in options
    (start,) = (option.partition("=")[2] for option in options if option.startswith("dhcpstart="))
    # It gives out 16 (slirp, NB_BOOTP_CLIENTS).
    given = {IPv4Address(start) + i for i in range(16)}
    config = cluster(xen1=low)
    nodes = {node.addresses.guest.ip for node in config.nodes}
    assert not given & {*nodes, *network.gateway_addresses(config), network.server_address(config)}
