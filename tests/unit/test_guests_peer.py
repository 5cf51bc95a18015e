"""The session with the peer: what goes over the wire, and what becomes of it when one end is not as it should be."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from config.errors import CommandError
from firstboot import ssh
from firstboot.errors import GuestError, HeldError, LockedError, NodeError, PeerError, StorageError
from firstboot.guests import peer, wire
from firstboot.guests.locks import Owner, take
from firstboot.guests.peer import PeerSession, Server, serve
from firstboot.guests.side import LocalSide, PeerSide
from firstboot.places import Places
from firstboot.probe.xen import Domain, Hypervisor
from tests.unit import guests_rig as rig
from tests.unit.guests_rig import XEN1, XEN2

DOMAINS = (
    Domain("Domain-0", 0, 1536, 1, "running"),
    Domain("web01", 7, 512, 2, "shutdown", 1, "f3b1a3f0-0000-4000-8000-000000000000"),
)
XEN = Hypervisor("4.20.5", 1502 << 20, 3071 << 20, frozenset({"pv", "hvm", "hap"}), (0x0FCBF3FD, 0xF6D8320B, 0))


def server(tmp_path: Path, side: Any = None) -> Server:
    places = Places(tmp_path)
    if side is None:
        side = LocalSide(XEN2, places, domains=lambda: DOMAINS, hypervisor=lambda: XEN)
    return Server(places, XEN2, side)


def there(tmp_path: Path, side: Any = None) -> PeerSide:
    return PeerSide(rig.InProcess(server(tmp_path, side)))  # type: ignore[arg-type]


def told_to(program: str) -> PeerSession:
    return PeerSession("xen2", [sys.executable, "-c", program])


# What is asked, and what is answered.


def test_domains_and_hypervisor_arrive_as_they_were_sent(tmp_path: Path) -> None:
    side = there(tmp_path)
    assert side.domains() == DOMAINS
    assert side.hypervisor() == XEN


def test_the_peers_files_bridges_and_groups_are_told(tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/xenbr0/bridge").mkdir(parents=True)
    (tmp_path / "run/xenpair/groups").mkdir(parents=True)
    (tmp_path / "run/xenpair/groups/xen1").touch()
    kernel = tmp_path / "vmlinuz"
    kernel.touch()
    side = there(tmp_path)
    assert side.missing_files([str(kernel), "/no/such"]) == ("/no/such",)
    assert side.has_bridge("xenbr0")
    assert not side.has_bridge("xenbr1")
    assert side.carried() == ("xen1",)
    side.ring()


@pytest.mark.parametrize(
    ("hint", "raw"),
    [
        (int, "1"),
        (int, True),
        (bool, 1),
        (tuple[str, ...], "web01"),
        (tuple[str, ...], [1]),
        (Domain, {"name": "web01"}),
        (Domain, {**asdict(DOMAINS[1]), "state": "levitating"}),
        (Domain, {**asdict(DOMAINS[1]), "more": 1}),
        (Hypervisor, None),
    ],
)
def test_an_answer_of_another_type_is_not_believed(hint: Any, raw: object) -> None:
    with pytest.raises(PeerError, match="xen2 answered what is not understood"):
        wire.typed(hint, raw, "xen2")


@pytest.mark.parametrize(
    ("raised", "arrives"),
    [
        (LockedError("taken"), LockedError),
        (GuestError("no"), GuestError),
        (HeldError("no room"), HeldError),
        (StorageError("no group"), StorageError),
        (CommandError(["xl", "list"], 1, "no xenstored"), PeerError),
        (NodeError("other"), PeerError),
        (OSError(5, "Input/output error"), PeerError),
    ],
)
def test_the_peers_errors_say_whose_they_are_and_only_answers_keep_their_kind(
    tmp_path: Path, raised: Exception, arrives: type[Exception]
) -> None:
    def fail() -> Any:
        raise raised

    side = there(tmp_path, LocalSide(XEN2, Places(tmp_path), domains=fail))
    with pytest.raises(arrives, match=r"^xen2: ") as caught:
        side.domains()
    assert type(caught.value) is arrives
    assert str(raised.args[-1]).splitlines()[0] in str(caught.value)


def test_a_guest_is_started_for_the_peer_only_under_its_lock(tmp_path: Path) -> None:
    started: list[str] = []

    places = Places(tmp_path)
    session = rig.InProcess(Server(places, XEN2, LocalSide(XEN2, places), started.append))
    side = PeerSide(session)  # type: ignore[arg-type]
    with pytest.raises(PeerError, match="guest/web01 is not held in this session"):
        side.start("web01")
    session.ask("lock", name="guest/web01", pid=1, what="guest move web01")
    side.start("web01")
    assert started == ["web01"]
    session.server.release()
    with pytest.raises(PeerError):
        side.clear_transit("web01")


# What a stranger may send.


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "GET / HTTP/1.1\n",
        "[]\n",
        "null\n",
        '{"ask": 1}\n',
        '{"ask": "domains", "args": []}\n',
        '{"ask": "levitate"}\n',
        '{"ask": "lock", "args": {"name": "../../etc/passwd", "pid": 1, "what": "x"}}\n',
        '{"ask": "lock", "args": {"name": "volumes", "pid": "1", "what": "x"}}\n',
        '{"ask": "lock", "args": {"name": "volumes", "pid": 1, "what": "two\\nlines"}}\n',
        '{"ask": "lock", "args": {}}\n',
        '{"ask": "activate", "args": {"volume": ""}}\n',
        '{"ask": "activate", "args": {"volume": ["--help"]}}\n',
        '{"ask": "missing_files", "args": {"paths": "x"}}\n',
        "[" * 100_000 + "\n",
    ],
)
def test_a_garbage_line_is_answered_by_an_error(tmp_path: Path, line: str) -> None:
    answer = json.loads(server(tmp_path).answer(line))
    assert answer["error"]["message"]


def test_the_server_goes_on_after_garbage_and_lets_go_of_everything_at_the_end(tmp_path: Path) -> None:
    ask = wire.request("lock", {"name": "volumes", "pid": 1, "what": "test"})
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff\xfe garbage\n" + 2 * ask.encode()))
    stdout = io.StringIO()
    serve(Places(tmp_path), XEN2, stdin, stdout)
    garbage, locked, again = map(json.loads, stdout.getvalue().splitlines())
    assert "error" in garbage
    assert locked == {"ok": None}
    assert again["error"]["kind"] == "LockedError"
    assert "xen1" in again["error"]["message"]
    take(Places(tmp_path), "volumes", Owner("xen2", 1, "after")).release()


# The asking end.


def test_it_goes_over_ssh_without_a_question_and_is_given_up_when_it_is_not_heard() -> None:
    argv = ssh.to_peer(XEN1.peer, "peer")
    assert argv[0] == "ssh"
    assert argv[-3:] == ["xen2", "/usr/bin/xenpair", "peer"]
    for option in ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=6"):
        assert option in argv


def test_a_session_asks_again_and_again_and_ends_in_order(real_programs: None, tmp_path: Path) -> None:
    session = PeerSession("xen2", rig.server_argv(tmp_path, XEN1))
    assert session.ask("hold?", name="volumes") is False
    session.ask("lock", name="volumes", pid=1, what="test")
    assert session.ask("hold?", name="volumes") is True
    with pytest.raises(PeerError, match="xen2: 'levitate' is not known here"):
        session.ask("levitate")
    # An error is an answer: the session is as good as before.
    session.ask("unlock", name="volumes")
    assert session.ask("hold?", name="volumes") is False
    assert session.alive
    session.close()
    session.close()
    assert not session.alive
    with pytest.raises(PeerError, match="has ended"):
        session.ask("carried")


def test_what_ssh_complains_of_is_told(real_programs: None) -> None:
    session = told_to("import sys; sys.exit('ssh: connect to host xen2 port 22: Connection refused')")
    with pytest.raises(PeerError, match="xen2 does not answer: ssh: connect to host xen2 port 22: Connection refused"):
        session.ask("carried")
    assert not session.alive


def test_a_program_that_is_missing_is_told(real_programs: None) -> None:
    with pytest.raises(PeerError, match="xen2 cannot be asked: /no/such/ssh"):
        PeerSession("xen2", ["/no/such/ssh"])


def test_a_peer_that_says_nothing_in_time_is_given_up(real_programs: None) -> None:
    session = told_to("import time; time.sleep(1000)")
    with pytest.raises(PeerError, match="xen2 did not answer within 0 s"):
        session.ask("carried", 0.3)
    # Its answer would come, if at all, to the next question.
    assert not session.alive


@pytest.mark.parametrize("said", ["Welcome to xen2!", '{"hello": 1}', '{"error": "no"}', "[]"])
def test_what_is_no_answer_ends_the_session(real_programs: None, said: str) -> None:
    session = told_to(f"print({said!r}, flush=True); import sys; sys.stdin.read()")
    with pytest.raises(PeerError, match="xen2 answered what is not understood"):
        session.ask("carried")
    assert not session.alive


def test_an_endless_answer_is_not_read_to_its_end(real_programs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINE_LIMIT", 1000)
    session = told_to("import sys\nwhile True: sys.stdout.write('x' * 1000)")
    with pytest.raises(PeerError):
        session.ask("carried")
    assert not session.alive


def test_a_server_that_ignores_the_end_of_its_session_is_not_waited_for(
    real_programs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "CLOSE_LIMIT", 0.2)
    session = told_to("import time; print('{\"ok\": 1}', flush=True); time.sleep(1000)")
    assert session.ask("carried") == 1
    session.close()
    assert session._process.returncode == -9


def test_what_the_kernel_maps_of_a_volume_is_read_off_sysfs(tmp_path: Path) -> None:
    side = LocalSide(XEN2, Places(tmp_path))
    assert side.mapped_size("web01") is None
    for directory in ("dev/data", "sys/class/block/dm-3"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "dev/dm-3").touch()
    (tmp_path / "dev/data/web01").symlink_to("../dm-3")
    (tmp_path / "sys/class/block/dm-3/size").write_text("16384\n")
    assert side.mapped_size("web01") == 8 << 20
