"""An installation over the network: real sockets, a server that breaks off, goes away, says no, or is another one."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from config.errors import CopyError
from config.findings import ConfigError
from config.machine import Machine
from config.secrets import Secrets
from firstboot.errors import InstallError, RefusedError
from firstboot.herald import Herald, Report
from firstboot.installer import download, server
from firstboot.installer.arguments import FromServer
from firstboot.installer.download import Download, to_host
from firstboot.pinned import AwayError, PinError, PinnedServer
from firstboot.places import Places
from tests.unit.conftest import EXAMPLE
from tests.unit.install_site import Answer, Site, make_certificate, serving

CONTENT = bytes(range(256)) * 4096
MACHINE = Machine({"eth0": "52:54:00:10:32:01"}, "serial", "uuid")
SECRETS = Secrets(authkeys="ab" * 32, drbd="cd" * 24, join="ef" * 32).to_yaml()
GUEST = "guests: [{name: a, memory: 64M, disk: 64M, home: xen1, install: {tarball: a.tar}}]"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.02,))
    monkeypatch.setattr(server, "PAUSES", (0.02,))


def read_all(source: Download) -> bytes:
    found, buffer = b"", memoryview(bytearray(100_000))
    while count := source.readinto(buffer):
        found += buffer[:count]
    return found


def downloading(port: int, said: list[str], *, size: int | None = len(CONTENT)) -> Download:
    url = f"http://127.0.0.1:{port}/image/image.zst"
    return Download(to_host(url), "/image/image.zst", "image.zst", size=size, waiting=said.append)


@pytest.fixture
def site() -> Site:
    return Site(files={"/image/image.zst": CONTENT})


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_download_that_breaks_off_goes_on_where_it_broke(site: Site, size: int | None) -> None:
    site.breaks, said = [300_000, 500_000], list[str]()
    with serving(site) as port:
        assert read_all(downloading(port, said, size=size)) == CONTENT
    assert [asked for *_, asked in site.asked] == ["", "bytes=300000-", "bytes=800000-"]
    assert said[-1].startswith("image.zst broke off (")
    assert "going on behind 0M of 1M" in said[-1]


def test_a_server_without_ranges_is_read_past_what_is_there(site: Site) -> None:
    site.breaks, site.ranges = [300_000], False
    with serving(site) as port:
        assert read_all(downloading(port, [])) == CONTENT


def test_a_server_that_is_gone_for_a_while_is_waited_for(site: Site) -> None:
    said: list[str] = []
    site.breaks = [300_000]
    found: list[bytes] = []
    with serving(site) as port:
        source = downloading(port, said)
        buffer = memoryview(bytearray(200_000))
        first = bytes(buffer[: source.readinto(buffer)])
    reading = threading.Thread(target=lambda: found.append(read_all(source)))
    reading.start()
    deadline = time.monotonic() + 10
    while not any("refused" in words for words in said) and time.monotonic() < deadline:
        time.sleep(0.01)
    with serving(site, port=port):
        reading.join(10)
    assert first + found[0] == CONTENT
    assert any("Connection refused" in words for words in said)


def test_a_server_that_is_busy_is_asked_again(site: Site) -> None:
    site.statuses, said = [503, 429], list[str]()
    with serving(site) as port:
        assert read_all(downloading(port, said)) == CONTENT
    assert "it answers 503" in said[0]


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(AwayError, match=r"image.zst cannot be had: .*refused\n.*invoke serve"):
            downloading(nobody.getsockname()[1], []).read(1 << 21)


def test_what_the_server_says_to_a_no_is_shown(site: Site) -> None:
    site.files = {}
    with serving(site) as port, pytest.raises(RefusedError, match=r"refuses \(404\): there is no such file"):
        downloading(port, []).read(1 << 21)


def test_another_image_of_that_name_is_not_mixed_in(site: Site) -> None:
    site.breaks = [300_000]
    with serving(site) as port:
        source = downloading(port, [])
        buffer = memoryview(bytearray(300_000))
        while source._at < 300_000:
            source.readinto(buffer)
        site.files["/image/image.zst"] = CONTENT[:-1]
        with pytest.raises(InstallError, match=rf"has {len(CONTENT) - 1} bytes, and should have {len(CONTENT)}"):
            source.readinto(buffer)


def test_an_answer_without_an_end_is_cut(site: Site) -> None:
    with serving(site) as port, pytest.raises(InstallError, match="has more than 64K"):
        downloading(port, [], size=None).read(64 << 10)


@dataclass
class Desk:
    """A server with one known machine, and the client's side of it."""

    site: Site
    origin: FromServer
    said: list[str]
    tickets: list[str]
    source: server.Server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("tls") / "key.pem"
    return path, make_certificate(path)


@pytest.fixture
def desk(real_programs: None, certificate: tuple[Path, str], tmp_path: Path) -> Iterator[Desk]:
    handed: list[str] = []

    def hello(question: dict[str, Any]) -> Answer:
        if MACHINE.nics["eth0"] not in question["nics"].values():
            return 404, {"error": f"no config names a machine with {question['nics']}"}
        config = EXAMPLE.read_text().replace("guests: []", GUEST)
        files = {"a.tar": hashlib.sha256(CONTENT).hexdigest()}
        known = {"cluster": "xenpair", "node": "xen1", "ticket": "t/1", "config": config}
        return 200, {**known, "authorized_keys": "ssh-ed25519 AAAA lab\n", "files": files}

    def secrets(question: dict[str, Any]) -> Answer:
        if question["ticket"] != "t/1":
            return 403, {"error": "that is no ticket"}
        if handed:
            return 409, {"error": "handed out at 12:00; `invoke serve --again xen1` allows it once more"}
        handed.append("xen1")
        return 200, {"secrets": SECRETS}

    path, pin = certificate
    answers = {"/hello": hello, "/secrets": secrets, "/report": lambda _: (204, {})}
    site = Site(files={"/files/a.tar": CONTENT}, answers=answers)
    with serving(site, certificate=path) as port:
        origin = FromServer(f"https://127.0.0.1:{port}", pin, "http://127.0.0.1:1/image", "10.0.0.7/24", "", "")
        said, tickets = list[str](), list[str]()
        yield Desk(site, origin, said, tickets, server.Server(origin, tmp_path, said.append, tickets.append))


def test_the_server_says_which_node_a_machine_is(desk: Desk) -> None:
    found = desk.source.identify(MACHINE)
    assert (found.cluster.cluster.name, found.node.name, desk.tickets) == ("xenpair", "xen1", ["t/1"])
    assert desk.site.heard == [{"nics": dict(MACHINE.nics), "serial": "serial", "uuid": "uuid"}]


def test_a_machine_that_it_does_not_know_is_told_what_it_saw(desk: Desk) -> None:
    with pytest.raises(RefusedError, match=r"refuses \(404\): no config names a machine with .*aa:bb"):
        desk.source.identify(replace(MACHINE, nics={"eth0": "aa:bb"}))


def test_config_secrets_keys_and_files_are_handed_over_for_root_alone(desk: Desk, tmp_path: Path) -> None:
    places = Places(tmp_path / "root")
    desk.source.identify(MACHINE)
    desk.site.breaks = [1000]
    desk.source.hand_over(places, desk.said.append)
    assert places.secrets.read_text() == SECRETS
    assert GUEST in places.config.read_text()
    assert places.seed_keys.read_text() == "ssh-ed25519 AAAA lab\n"
    assert (places.files / "a.tar").read_bytes() == CONTENT
    assert json.loads(places.reporting.read_text()) == {
        "server": desk.origin.url,
        "pin": desk.origin.pin,
        "ticket": "t/1",
    }
    written = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert ("GET", "/files/a.tar?ticket=t%2F1", "bytes=1000-") in desk.site.asked


def test_secrets_come_last_and_only_once(desk: Desk, tmp_path: Path) -> None:
    desk.source.identify(MACHINE)
    desk.source.hand_over(Places(tmp_path / "one"), desk.said.append)
    assert [path for _, path, _ in desk.site.asked][-1] == "/secrets"
    with pytest.raises(RefusedError, match=r"refuses \(409\): handed out at 12:00; `invoke serve --again xen1`"):
        desk.source.hand_over(Places(tmp_path / "two"), desk.said.append)
    assert not Places(tmp_path / "two").secrets.exists()


def test_a_damaged_file_costs_no_secrets(desk: Desk, tmp_path: Path) -> None:
    desk.source.identify(MACHINE)
    desk.site.files["/files/a.tar"] = CONTENT[:-1] + b"?"
    with pytest.raises(CopyError, match=r"a.tar is damaged"):
        desk.source.hand_over(Places(tmp_path / "root"), desk.said.append)
    assert "/secrets" not in [path for _, path, _ in desk.site.asked]


def test_a_config_with_an_error_is_told_with_its_line(desk: Desk) -> None:
    known = {"cluster": "c", "node": "xen1", "ticket": "t"}
    desk.site.answers["/hello"] = lambda _: (200, {**known, "config": "cluster: {\n"})
    with pytest.raises(ConfigError, match=r"cluster.yaml:\d: is not valid YAML"):
        desk.source.identify(MACHINE)


@pytest.mark.parametrize(
    ("answer", "said"),
    [({"node": "xen1"}, "not understood: cluster"), ({"x": 1}, "not understood"), ([1], "no JSON object")],
)
def test_an_answer_that_is_none_is_told(desk: Desk, answer: Any, said: str) -> None:
    desk.site.answers["/hello"] = lambda _: (200, answer)
    with pytest.raises(InstallError, match=said):
        desk.source.identify(MACHINE)


def test_a_server_that_is_busy_is_asked_the_same_again(desk: Desk) -> None:
    desk.site.statuses = [503]
    desk.source.identify(MACHINE)
    assert desk.said == [f"{desk.origin.url}/hello answers 503 Service Unavailable; trying again"]


def test_nothing_is_said_to_a_server_with_another_certificate(desk: Desk) -> None:
    other = PinnedServer(desk.origin.url, "0" * 64)
    with pytest.raises(PinError, match=rf"sha256 {desk.origin.pin}, and the boot script names 0000"):
        other.ask("/secrets", {"ticket": "t/1"})
    assert desk.site.asked == []


def test_files_are_not_fetched_from_another_server_either(desk: Desk, tmp_path: Path) -> None:
    desk.source.identify(MACHINE)
    desk.source._server = PinnedServer(desk.origin.url, "0" * 64)
    with pytest.raises(PinError):
        desk.source.hand_over(Places(tmp_path / "root"), desk.said.append)


REPORT = Report("t/1", "52:54:00:10:32:01", "installer", "write", "running", "42%", 42)


def test_the_newest_state_is_told_and_nothing_waits_for_it(desk: Desk) -> None:
    desk.site.statuses = [503]
    herald = Herald(PinnedServer(desk.origin.url, desk.origin.pin))
    begun = time.monotonic()
    for percent in range(43):
        herald.tell(replace(REPORT, percent=percent, text="x" * 9000))
    assert time.monotonic() - begun < 0.5
    assert herald.close(5)
    assert desk.site.heard[-1]["percent"] == 42
    assert len(desk.site.heard[-1]["text"]) == 2000


def test_a_server_that_is_away_for_good_is_given_up() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        herald = Herald(PinnedServer(f"https://127.0.0.1:{nobody.getsockname()[1]}", "0" * 64))
        herald.tell(REPORT)
        begun = time.monotonic()
        assert not herald.close(0.2)
    assert time.monotonic() - begun < 1
