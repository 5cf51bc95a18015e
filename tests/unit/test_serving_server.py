"""The server as machines meet it: real sockets on loopback, real TLS."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from images.serving.certificate import Certificate
from images.serving.errors import ServeError
from images.serving.options import Endpoint
from images.serving.server import Server
from tests.unit.serving_rig import IMAGE, LOOPBACK, OTHER1, XEN1, Client, options, serving, write_config

pytestmark = pytest.mark.usefixtures("real_programs")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(options(tmp_path)) as running:
        yield running


def ticket(client: Client, nics: dict[str, str] = XEN1) -> str:
    return str(client.hello(nics).json["ticket"])


def test_a_known_machine_gets_what_belongs_to_it_and_no_secret(client: Client, tmp_path: Path) -> None:
    answer = client.hello(XEN1, serial="SN1")
    assert answer.status == 200
    assert (answer.json["cluster"], answer.json["node"]) == ("xenpair", "xen1")
    assert answer.json["config"] == (tmp_path / "config" / "cluster.yaml").read_text()
    assert answer.json["authorized_keys"] == "ssh-ed25519 AAAA you@host\n"
    assert answer.json["files"] == {"web01.tar": hashlib.sha256(b"tarball" * 1000).hexdigest()}
    held = yaml.safe_load((tmp_path / "config" / "secrets" / "xenpair.yaml").read_text())
    assert held["join"].encode() not in answer.body


def test_an_unknown_machine_is_told_what_was_seen_of_it(client: Client) -> None:
    answer = client.hello({"eth7": "52:54:00:00:00:99"}, serial="SN7")
    assert answer.status == 404
    assert re.search(
        r"matches no node .*eth7 52:54:00:00:00:99.*serial: SN7.*\n.*nodes\[\].match", answer.json["error"]
    )
    assert "52:54:00:00:00:99" in client.page("GET", "/state").body.decode()


def test_one_server_serves_two_clusters(tmp_path: Path) -> None:
    configs = write_config(tmp_path / "config"), write_config(tmp_path / "other", other=True)
    with serving(options(tmp_path, *configs)) as client:
        assert client.hello(OTHER1).json["cluster"] == "other"
        assert client.hello(XEN1).json["cluster"] == "xenpair"
        first = client.secure("POST", "/secrets", {"ticket": ticket(client)})
        second = client.secure("POST", "/secrets", {"ticket": ticket(client, OTHER1)})
        assert first.json["secrets"] != second.json["secrets"]
        both = client.hello({**XEN1, "eth2": OTHER1["eth1"]})
        assert both.status == 404
        assert "is xenpair/xen1 and other/xen1 at once" in both.json["error"]


def test_secrets_are_handed_out_once_and_again_when_the_administrator_allows_it(client: Client, tmp_path: Path) -> None:
    mine = ticket(client)
    first = client.secure("POST", "/secrets", {"ticket": mine})
    assert first.status == 200
    held = yaml.safe_load((tmp_path / "config" / "secrets" / "xenpair.yaml").read_text())
    assert yaml.safe_load(first.json["secrets"]) == held
    again = client.secure("POST", "/secrets", {"ticket": ticket(client)})
    assert again.status == 409
    assert re.search(r"handed out at \d\d:\d\d:\d\d.*\n.*Allow again", again.json["error"])
    assert client.page("POST", "/allow", {"cluster": "xenpair", "node": "xen1"}, **token(client)).status == 204
    assert client.secure("POST", "/secrets", {"ticket": mine}).status == 200


def test_the_installer_that_lost_the_answer_may_ask_again_and_nobody_else_may(client: Client) -> None:
    mine = ticket(client)
    first = client.secure("POST", "/secrets", {"ticket": mine, "asker": "4f"})
    again = client.secure("POST", "/secrets", {"ticket": mine, "asker": "4f"})
    assert (first.status, again.json) == (200, first.json)
    for asker in ("4e", ""):
        assert client.secure("POST", "/secrets", {"ticket": mine, "asker": asker}).status == 409
    client.report(ticket=mine, step="boot", state="done")
    assert client.secure("POST", "/secrets", {"ticket": mine, "asker": "4f"}).status == 409


def token(client: Client) -> dict[str, str]:
    found = re.search(rb'name="xenpair-token" content="([^"]+)"', client.page("GET", "/").body)
    assert found
    return {"X_Xenpair_Token": found[1].decode()}


def test_a_page_of_somebody_else_s_cannot_allow_anything(client: Client) -> None:
    wanted = {"cluster": "xenpair", "node": "xen1"}
    assert client.page("POST", "/allow", wanted).status == 403
    assert client.page("POST", "/allow", wanted, X_Xenpair_Token="guessed").status == 403
    assert client.page("GET", "/", Host="evil.example:8088").status == 421


def test_a_ticket_that_was_not_given_out_opens_nothing(client: Client) -> None:
    client.hello(XEN1)
    for foreign in ("", "0" * 64, "ü"):
        assert client.secure("POST", "/secrets", {"ticket": foreign}).status == 403
    assert client.secure("GET", "/files/web01.tar?ticket=0").status == 403
    assert client.report(ticket="0" * 64).status == 403


def test_a_restarted_server_knows_the_tickets_and_is_known_by_its_certificate(tmp_path: Path) -> None:
    with serving(options(tmp_path)) as client:
        mine, pin = ticket(client), client.pin
    with serving(options(tmp_path, tmp_path / "config" / "cluster.yaml")) as client:
        assert client.pin == pin
        assert client.secure("POST", "/secrets", {"ticket": mine}).status == 200


def test_after_the_window_no_secret_is_handed_out(tmp_path: Path) -> None:
    server = options(tmp_path)
    with serving(server) as client:
        mine = ticket(client)
        client.server.board.window = replace(client.server.board.window, closes=0.0)
        refused = client.secure("POST", "/secrets", {"ticket": mine})
        assert refused.status == 410
        assert "start `invoke serve` again" in refused.json["error"]
        # Somebody new is not even begun with: its disk would be written for nothing.
        assert client.hello({"eth0": "52:54:00:13:20:02", "eth1": "52:54:00:10:32:02"}).status == 410


def test_the_server_ends_when_its_window_has_closed_and_nothing_is_under_way(tmp_path: Path) -> None:
    server = Server.prepare(options(tmp_path, window=0.2), tell=lambda _: None)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert [text for _, text in server.board.lines][-1] == "nothing is under way any more; the server ends"


def test_a_guest_s_file_comes_in_ranges_for_who_has_a_ticket(client: Client) -> None:
    path = f"/files/web01.tar?ticket={ticket(client)}"
    assert client.secure("GET", path).body == b"tarball" * 1000
    part = client.secure("GET", path, Range="bytes=6993-")
    assert (part.status, part.body) == (206, b"tarball")
    assert client.secure("GET", path.replace("web01.tar", "cluster.yaml")).status == 404


def test_an_interrupted_download_of_the_image_goes_on(client: Client) -> None:
    part = client.get("/image/image.zst", Range="bytes=10000-")
    assert part.status == 206
    assert part.body == IMAGE[10000:]
    assert part.headers["content-range"] == f"bytes 10000-{len(IMAGE) - 1}/{len(IMAGE)}"
    beyond = client.get("/image/image.zst", Range=f"bytes={len(IMAGE)}-")
    assert beyond.status == 416


@pytest.mark.parametrize("path", ["/", "/image/", "/../config/secrets/xenpair.yaml", "/image/%2e%2e/vmlinuz", "/hello"])
def test_nothing_but_the_tree_s_files_is_served(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_the_first_script_asks_and_the_second_one_boots_the_installer(client: Client) -> None:
    first = client.get("/boot.ipxe").body.decode()
    assert "chain --replace --autofree boot.ipxe?mac=${netX/mac:hexhyp}" in first
    second = client.get("/boot.ipxe?mac=52-54-00-10-32-01&uuid=&serial=").body.decode().splitlines()
    http, tls = client.server.http, client.server.tls
    kernel = next(line for line in second if line.startswith("kernel"))
    assert kernel.startswith("kernel vmlinuz initrd=initrd.img initrd=installer.img boot=xenpair ")
    assert f"xenpair.server=https://{tls} xenpair.pin={client.pin} xenpair.image=http://{http}/image " in kernel
    assert "xenpair.ip=${netX/ip}/${netX/netmask},${netX/gateway},${netX/mac}" in kernel
    initrds = [line.split()[1] for line in second if line.startswith("initrd ")]
    assert initrds == ["initrd.img", "installer.img"]


def test_a_machine_behind_a_gateway_is_told_the_address_by_which_it_reaches_us(client: Client) -> None:
    script = client.get("/boot.ipxe?mac=52-54-00-10-32-01", Host="10.0.2.2:1234").body.decode()
    assert f"https://10.0.2.2:{client.server.tls.port} " in script
    assert "http://10.0.2.2:1234/image" in script
    forged = client.get("/boot.ipxe?mac=52-54-00-10-32-01", Host="10.0.2.2 evil=1").body.decode()
    assert "evil" not in forged


def test_a_machine_that_was_installed_boots_its_own_disk_until_it_is_allowed_again(client: Client) -> None:
    query = "/boot.ipxe?mac=52-54-00-13-20-01"
    assert "kernel" in client.get(query).body.decode()
    client.secure("POST", "/secrets", {"ticket": ticket(client)})
    script = client.get(query).body.decode()
    assert "kernel" not in script
    assert script.rstrip().endswith("iseq ${platform} efi && exit 1 ||\nexit 0")
    client.page("POST", "/allow", {"cluster": "xenpair", "node": "xen1"}, **token(client))
    assert "kernel" in client.get(query).body.decode()


def test_reports_are_bounded(client: Client) -> None:
    mine = ticket(client)
    assert client.report(ticket=mine, percent=42.5, text="x" * 5000, log=["y" * 900] * 60).status == 204
    record = client.server.board.records["xenpair/xen1"]
    assert (len(record.text), len(record.log), len(record.log[0])) == (2000, 40, 400)
    for wrong in ({"percent": 101}, {"step": "<b>"}, {"state": "fine"}, {"more": 1}, {"percent": "NaN"}):
        assert client.report(ticket=mine, **wrong).status == 400
    assert client.report(ticket=mine, text="x" * 70000).status == 413
    assert client.secure("POST", "/report", b"\xff{").status == 400
    assert 429 in {client.report(ticket=mine).status for _ in range(60)}


def test_who_has_not_said_hello_is_not_believed(client: Client) -> None:
    assert client.report().status == 403
    client.hello({"eth0": "52:54:00:00:00:99"})
    assert client.report(machine="52:54:00:00:00:99", state="failed").status == 204
    client.hello(XEN1)
    assert client.report(step="boot", state="done").status == 403


def test_a_port_that_somebody_has_is_named_with_the_option_that_chooses_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = replace(options(tmp_path), page=Endpoint(LOOPBACK, port))
        with pytest.raises(ServeError, match=rf"cannot listen at 127.0.0.1:{port}: Address already in use\n.*--page"):
            Server.prepare(wanted, tell=lambda _: None)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    made = Certificate.ensure(tmp_path)
    assert made.file.stat().st_mode & 0o777 == 0o600
    made.file.chmod(0o644)
    with pytest.raises(ServeError, match="others can read the server's key"):
        Certificate.ensure(tmp_path)
