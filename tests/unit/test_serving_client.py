"""The installer's and first boot's own clients against the server: both sides agree word by word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import secrets
from firstboot.errors import RefusedError
from firstboot.herald import LINE_LIMIT, LOG_LINES, Herald, Report
from firstboot.installer.arguments import FromServer, parse_arguments
from firstboot.installer.server import Server as Installer
from firstboot.pinned import PinError, PinnedServer
from firstboot.places import Places
from tests.unit.serving_rig import IMAGE, XEN1, Client, machine, options, serving

CARD = XEN1["eth1"]


@pytest.fixture
def client(tmp_path: Path, real_programs: None) -> Iterator[Client]:
    with serving(options(tmp_path)) as client:
        yield client


def origin(client: Client) -> FromServer:
    """What the installer reads from the kernel's command line, once iPXE has put in what it knows."""
    script = client.get(f"/boot.ipxe?mac={CARD.replace(':', '-')}").body.decode()
    kernel = next(line for line in script.splitlines() if line.startswith("kernel "))
    for name, value in {"ip": "10.77.0.9", "netmask": "255.255.255.0", "gateway": "", "mac": CARD}.items():
        kernel = kernel.replace(f"${{netX/{name}}}", value)
    found = parse_arguments(kernel.removesuffix(" || goto failed")).origin
    assert isinstance(found, FromServer)
    return found


def test_the_installer_gets_all_that_it_hands_over(client: Client, tmp_path: Path) -> None:
    tickets: list[str] = []
    installer = Installer(origin(client), tmp_path, lambda _: None, tickets.append)
    assert installer.identify(machine(XEN1)).node.name == "xen1"
    assert json.loads(installer.index())["root_uuid"] == "u"
    stream, buffer, content = installer.image(len(IMAGE)), memoryview(bytearray(1 << 20)), b""
    while count := stream.readinto(buffer):
        content += buffer[:count]
    assert content == IMAGE
    places = Places(tmp_path / "root")
    installer.hand_over(places, lambda _: None)
    assert (places.files / "web01.tar").read_bytes() == (tmp_path / "config" / "web01.tar").read_bytes()
    given = json.loads(places.reporting.read_text())
    assert given == {"server": f"https://{client.server.tls}", "pin": client.pin, "ticket": tickets[0]}
    kept = secrets.load(tmp_path / "root" / "etc" / "xenpair" / "secrets.yaml")
    assert kept == secrets.load(tmp_path / "config" / "secrets" / "xenpair.yaml")
    with pytest.raises(RefusedError, match="handed out once"):
        installer.hand_over(places, lambda _: None)


def test_an_installer_that_nobody_knows_shows_the_servers_own_words(client: Client, tmp_path: Path) -> None:
    installer = Installer(origin(client), tmp_path, lambda _: None, lambda _: None)
    with pytest.raises(RefusedError, match=r"refuses \(404\): .*seen: network cards: eth0 52:54:00:99:99:99"):
        installer.identify(machine({"eth0": "52:54:00:99:99:99"}, "S9", "U9"))


def test_the_longest_report_of_a_machine_is_taken(client: Client) -> None:
    herald = Herald(PinnedServer(f"https://{client.server.tls}", client.pin))
    log = ("ü" * LINE_LIMIT,) * LOG_LINES
    ticket = client.hello(XEN1).json["ticket"]
    herald.tell(Report(ticket, CARD, "installer", "write", "failed", "€" * 5000, 42, log))
    assert herald.close(5.0)
    state = json.loads(client.page("GET", "/state").body)
    node = next(node for node in state["nodes"] if node["node"] == "xen1")
    assert node["failed"]
    assert node["log"] == list(log)


def test_a_server_of_another_certificate_is_told_nothing(client: Client) -> None:
    with pytest.raises(PinError, match=client.pin):
        PinnedServer(f"https://{client.server.tls}", "0" * 64).ask("/hello", {"nics": XEN1})


def test_debians_installer_finds_its_answers_beside_the_tree(tmp_path: Path, real_programs: None) -> None:
    pool = tmp_path / "preseed" / "pool"
    pool.mkdir(parents=True)
    (pool / "xenpair-firstboot.deb").write_text("package")
    (pool / "passwd").symlink_to("/etc/passwd")
    with serving(options(tmp_path)) as client:
        assert client.get("/preseed/pool/xenpair-firstboot.deb").body == b"package"
        for path in ("/preseed/", "/preseed/../config/cluster.yaml", "/preseed/%2e%2e/config/cluster.yaml"):
            assert client.get(path).status in (403, 404), path
        assert client.get("/preseed/pool/passwd").status == 404
