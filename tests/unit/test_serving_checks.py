"""What is checked before the server serves, and what dnsmasq is told."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from config.findings import ConfigError
from config.model import Cluster
from images.serving import options
from images.serving.dnsmasq import Plan, argv, check_config, readable, render
from images.serving.errors import ServeError
from images.serving.interface import Leases, addresses_of, free_range, own_address, parse_addresses
from images.serving.ipxe import own_disk
from images.serving.offer import read_offers
from images.serving.tree import FILES, check_tree
from tests.unit.serving_rig import write_config, write_tree

ADDRESS = IPv4Interface("192.168.77.10/24")
SCRIPT = "http://192.168.77.10:8080/boot.ipxe"
PLANS = {
    "proxy": Plan("br0", ADDRESS, SCRIPT, None),
    "full": Plan("br0", ADDRESS, SCRIPT, Leases(IPv4Address("192.168.77.100"), IPv4Address("192.168.77.150"))),
}


@pytest.mark.parametrize("mode", PLANS)
def test_dnsmasq_takes_its_config(mode: str, tmp_path: Path, real_programs: None) -> None:
    config = tmp_path / "dnsmasq.conf"
    config.write_text(render(PLANS[mode], tmp_path))
    check_config(config)
    config.write_text("port=0\nnonsense\n")
    with pytest.raises(ServeError, match="does not take its config"):
        check_config(config)


def test_beside_another_dhcp_server_no_address_is_given_out_and_ipxe_sees_no_menu(tmp_path: Path) -> None:
    lines = render(PLANS["proxy"], tmp_path).splitlines()
    assert "dhcp-range=192.168.77.0,proxy,255.255.255.0" in lines
    services = [line for line in lines if line.startswith("pxe-service=")]
    assert services == [
        'pxe-service=tag:!ipxe,0,"xenpair",undionly.kpxe',
        'pxe-service=tag:!ipxe,7,"xenpair",snponly.efi',
        'pxe-service=tag:!ipxe,9,"xenpair",snponly.efi',
    ]
    assert f"dhcp-boot=tag:ipxe,{SCRIPT},,192.168.77.10" in lines


def test_full_dhcp_answers_machines_that_boot_from_the_network_and_nobody_else(tmp_path: Path) -> None:
    lines = render(PLANS["full"], tmp_path).splitlines()
    assert "dhcp-range=192.168.77.100,192.168.77.150,255.255.255.0,1h" in lines
    assert "dhcp-ignore=tag:!pxe" in lines
    assert "port=0" in lines
    assert "dhcp-boot=tag:!ipxe,tag:arch0,undionly.kpxe,,192.168.77.10" in lines


def test_dnsmasq_starts_without_root_and_ends_with_us() -> None:
    words = " ".join(argv(Path("/run/dnsmasq.conf")))
    assert words.startswith("setpriv --pdeathsig KILL --reuid nobody")
    assert words.endswith("dnsmasq --no-daemon --conf-file=/run/dnsmasq.conf")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("dnsmasq-dhcp: DHCPDISCOVER(br0) 52:54:00:10:32:01 ", ""),
        ("dnsmasq-dhcp: DHCPOFFER(br0) 192.168.77.9 52:54:00:10:32:01 ", "52:54:00:10:32:01 is offered 192.168.77.9"),
        ("dnsmasq-dhcp[7]: DHCPACK(br0) 192.168.77.9 52:54:00:10:32:01", "52:54:00:10:32:01 was given 192.168.77.9"),
        (
            "dnsmasq-dhcp: PXE(br0) 52:54:00:10:32:01 proxy",
            "52:54:00:10:32:01 asked how to boot, and was told to ask here",
        ),
        (
            "dnsmasq-dhcp: PXE(br0) 192.168.77.9 52:54:00:10:32:01 undionly.kpxe",
            "52:54:00:10:32:01 at 192.168.77.9 was told to boot undionly.kpxe",
        ),
        ("dnsmasq-tftp: sent /tmp/x/tftp/snponly.efi to 192.168.77.9", "192.168.77.9 has loaded snponly.efi"),
        ("dnsmasq-tftp: error 8 User aborted the transfer received from 192.168.77.9", ""),
        ("dnsmasq: started, version 2.90 DNS disabled", ""),
        (
            "Nov 25 12:34:06 dnsmasq[7]: failed to bind DHCP server socket: Address already in use",
            "dnsmasq: failed to bind DHCP server socket: Address already in use",
        ),
    ],
)
def test_what_dnsmasq_logs_is_said_in_plain_words(line: str, shown: str) -> None:
    assert readable(line) == shown


def test_no_address_that_a_config_speaks_of_is_given_out(cluster: Cluster) -> None:
    taken = {*addresses_of([cluster]), IPv4Address("192.168.132.100")}
    assert {IPv4Address("192.168.132.1"), IPv4Address("192.168.132.241"), IPv4Address("10.10.32.2")} <= taken
    leases = free_range(IPv4Network("192.168.132.0/24"), taken)
    assert (str(leases.first), str(leases.last)) == ("192.168.132.101", "192.168.132.240")


def test_a_network_without_room_is_refused() -> None:
    with pytest.raises(ServeError, match=r"10\.0\.0\.0/29 has no 4 free addresses in a row"):
        free_range(IPv4Network("10.0.0.0/29"), [IPv4Address("10.0.0.3")])


def test_our_address_is_the_one_that_the_card_has(real_programs: None) -> None:
    assert str(own_address("lo", None)) == "127.0.0.1/8"
    with pytest.raises(ServeError, match=r"lo has no address 192.0.2.1\n.*127\.0\.0\.1"):
        own_address("lo", IPv4Address("192.0.2.1"))
    with pytest.raises(ServeError, match=r"there is no network card 'nosuch0'\n.*there are .*lo"):
        own_address("nosuch0", None)
    assert parse_addresses('[{"addr_info": [{"family": "inet6", "local": "::1", "prefixlen": 128}]}]') == []


def test_a_tree_that_lacks_something_is_named_with_what_makes_it(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "netboot")
    check_tree(tree)
    (tree / "image" / "image.zst").write_bytes(b"short")
    with pytest.raises(ServeError, match="has 5 bytes, and its index says 10240"):
        check_tree(tree)
    for name in FILES:
        (tree / name).unlink()
    with pytest.raises(ServeError, match=r"it lacks vmlinuz, .*image/image\.zst\n.*--formats netboot"):
        check_tree(tree)


def test_a_config_whose_secrets_are_not_there_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "secrets" / "xenpair.yaml").unlink()
    with pytest.raises(ServeError, match=r"secrets of xenpair are not there: .*\n.*invoke build-image"):
        read_offers([config])


def test_a_config_whose_files_are_not_there_is_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "web01.tar").unlink()
    with pytest.raises(ConfigError, match="does not exist"):
        read_offers([config])


def test_two_configs_that_name_the_same_machine_are_refused_at_the_start(tmp_path: Path) -> None:
    first, second = write_config(tmp_path / "a"), write_config(tmp_path / "b", other=True)
    assert [offer.name for offer in read_offers([first, second])] == ["xenpair", "other"]
    # By a card that one config recognises it by, and the other one merely knows of.
    second.write_text(second.read_text().replace('mac: "52:54:00:10:33:01"', 'mac: "52:54:00:13:20:01"'))
    with pytest.raises(ServeError, match="same machine: it would be xenpair/xen1 and other/xen1"):
        read_offers([first, second])


def test_two_configs_of_one_cluster_s_name_are_refused(tmp_path: Path) -> None:
    first, second = write_config(tmp_path / "a"), write_config(tmp_path / "b")
    with pytest.raises(ServeError, match="both call their cluster xenpair"):
        read_offers([first, second])


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("60m", 3600), ("2h", 7200)])
def test_a_window_is_a_span_of_time(text: str, seconds: float) -> None:
    assert options.parse_span(text) == seconds


@pytest.mark.parametrize("text", ["60", "", "1d", "0m", "-5m", "forever"])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ServeError, match=re.escape(repr(text))):
        options.parse_span(text)


def test_options_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    for parse, text in [
        (lambda t: options.parse_endpoint(t, "--page"), "localhost"),
        (lambda t: options.parse_address(t, "--address"), "10.0.0"),
        (lambda t: options.parse_port(t, "--tls-port"), "70000"),
        (options.parse_dhcp, "maybe"),
    ]:
        with pytest.raises(ServeError, match=r"--(page|address|tls-port|dhcp) "):
            parse(text)
    keys = tmp_path / "keys"
    keys.write_text("# ours\nssh-ed25519 AAAA you@host\n\n")
    assert options.read_keys(str(keys)) == "ssh-ed25519 AAAA you@host\n"
    keys.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(ServeError, match="not an SSH public key"):
        options.read_keys(str(keys))


def test_no_text_of_ours_is_a_command_of_ipxe_s() -> None:
    assert own_disk("a\nchain x").count("\n") == own_disk("a").count("\n")
    assert "${x}" not in own_disk("${x}")
