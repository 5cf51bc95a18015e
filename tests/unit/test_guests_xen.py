"""What Xen says of its domains and of itself, and what is told to xl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from config.door import Output
from config.errors import CommandError
from firstboot.errors import GuestError, ProbeError
from firstboot.guests import xl
from firstboot.guests.definition import Definition
from firstboot.guests.domain_config import domain_uuid
from firstboot.places import Places
from firstboot.probe.xen import Domain, Hypervisor, parse_hypervisor, parse_xl_list

MIB = 1 << 20
WEB = Definition("web01", "xen1", 512 * MIB, 1, "pvh", "xenbr0", "00:16:3e:00:00:01")
UUID = str(domain_uuid("web01"))


def row(name: str, domid: int, state: str = "-b----", reason: str = "-", uuid: str = UUID) -> str:
    """As list_domains in tools/xl/xl_info.c prints it."""
    return f"{name:<40} {domid:5d} {512:5d} {1:5d}     {state}  {1.5:8.1f} {uuid} {reason:>8} {'-':>16}\n"


@pytest.fixture
def table(captured: Path) -> Callable[..., str]:
    """The captured list of dom0 alone, with further rows."""
    text = (captured / "xl-list-v.txt").read_text().rstrip("\n") + "\n"
    return lambda *rows: text + "".join(rows)


class FakeXl:
    """Stands for run(): answers `xl list -v` from a list of tables, the last one for ever, and notes the rest."""

    def __init__(self, *tables: str) -> None:
        self.tables = list(tables)
        self.called: list[tuple[str, ...]] = []
        self.timeouts: list[float] = []
        self.fails: dict[str, CommandError] = {}

    def __call__(self, argv: Sequence[str], *, timeout: float) -> Output:
        self.timeouts.append(timeout)
        verb = argv[1]
        if verb == "list":
            return Output(0, self.tables.pop(0) if len(self.tables) > 1 else self.tables[0], "")
        self.called.append(tuple(argv[1:]))
        if verb in self.fails:
            raise self.fails[verb]
        return Output(0, "", "")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeXl]:
    """Puts a FakeXl in the place of xl."""
    monkeypatch.setattr(xl, "POLL", 0.0)

    def make(*tables: str) -> FakeXl:
        found = FakeXl(*tables)
        monkeypatch.setattr(xl, "run", found)
        return found

    return make


def refusal(verb: str, returncode: int | None = 1, stderr: str = "") -> CommandError:
    return CommandError(["xl", verb], returncode, stderr)


def test_dom0_is_a_domain_that_runs(captured: Path) -> None:
    (dom0,) = parse_xl_list((captured / "xl-list-v.txt").read_text())
    assert dom0 == Domain("Domain-0", 0, 1536, 1, "running", None, "00000000-0000-0000-0000-000000000000")


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        ("r-----", "-", ("running", None, False)),
        ("-b----", "-", ("running", None, False)),
        ("------", "-", ("running", None, False)),
        ("--p---", "-", ("paused", None, False)),
        ("-b-s--", "0", ("shutdown", 0, True)),
        ("---sr-", "1", ("shutdown", 1, True)),
        ("---ss-", "2", ("shutdown", 2, True)),
        ("---sc-", "3", ("crashed", 3, True)),
        ("---sw-", "4", ("shutdown", 4, True)),
        ("---s?-", "ff", ("shutdown", 255, True)),
        ("--ps--", "0", ("shutdown", 0, True)),
        ("-----d", "-", ("dying", None, False)),
        ("--ps-d", "0", ("dying", 0, False)),
    ],
)
def test_the_flags_tell_the_state(
    table: Callable[..., str], flags: str, code: str, expected: tuple[str, int | None, bool]
) -> None:
    domain = parse_xl_list(table(row("web01", 3, flags, code)))[1]
    assert (domain.state, domain.reason, domain.ended) == expected


@pytest.mark.parametrize(
    ("name", "guest", "transit"),
    [
        ("web01", "web01", ""),
        ("web01--incoming", "web01", "incoming"),
        ("web01--migratedaway", "web01", "migratedaway"),
        ("incoming", "incoming", ""),
    ],
)
def test_both_ends_of_a_live_migration_are_the_guest(
    table: Callable[..., str], name: str, guest: str, transit: str
) -> None:
    domain = parse_xl_list(table(row(name, 3)))[1]
    assert (domain.guest, domain.transit, domain.uuid) == (guest, transit, UUID)


def test_columns_are_found_by_the_header(table: Callable[..., str]) -> None:
    text = "ID State Name Mem VCPUs Reason-Code UUID\n0 r----- Domain-0 1536 1 - 0\n7 --p--- web01 256 2 - u\n"
    assert parse_xl_list(text)[1] == Domain("web01", 7, 256, 2, "paused", None, "u")


@pytest.mark.parametrize(
    "bad",
    [
        row("web 01", 3),
        row("web01", 3, "-x----"),
        row("web01", 3, reason="soon"),
        "web01 3\n",
        "libxl: error: something\n",
    ],
)
def test_a_row_that_is_not_understood_makes_the_whole_list_unknown(table: Callable[..., str], bad: str) -> None:
    with pytest.raises(ProbeError):
        parse_xl_list(table(bad))


def test_a_list_without_dom0_is_not_taken_for_all_there_is(table: Callable[..., str]) -> None:
    header = table().splitlines()[0]
    with pytest.raises(ProbeError, match="dom0"):
        parse_xl_list(f"{header}\n{row('web01', 3)}")


def test_xen_says_what_it_is_and_has(captured: Path) -> None:
    found = parse_hypervisor((captured / "xl-info.txt").read_text())
    assert (found.version, found.release) == ("4.20.5-pre", (4, 20))
    assert (found.total_memory, found.free_memory) == (3071 * MIB, 1502 * MIB)
    assert {"pv", "hvm", "hap"} <= found.virt_caps
    assert found.hw_caps[:2] == (0x0FCBF3FD, 0xF6D8320B)
    assert len(found.hw_caps) == 8


def test_an_unstable_xen_has_a_release_too() -> None:
    assert Hypervisor("4.21-unstable", 0, 0, frozenset(), ()).release == (4, 21)


@pytest.mark.parametrize(("old", "new"), [("free_memory", "fre"), (": 1502", ": many"), ("4.20.5-pre", "new")])
def test_an_info_that_is_not_understood_is_not_acted_on(captured: Path, old: str, new: str) -> None:
    with pytest.raises(ProbeError):
        parse_hypervisor((captured / "xl-info.txt").read_text().replace(old, new))


def test_a_guest_is_started_from_a_file_that_only_root_reads_and_xl_does_not_stay(
    tmp_path: Path, table: Callable[..., str], fake: Callable[..., FakeXl]
) -> None:
    calls = fake(table())
    xl.create(WEB, "data", Places(tmp_path))
    file = tmp_path / "run/xenpair/guests/web01.cfg"
    assert calls.called == [("create", "-e", str(file))]
    assert file.stat().st_mode & 0o777 == 0o600
    assert 'name = "web01"' in file.read_text()


def test_what_a_killed_xl_has_begun_is_removed_though_it_has_no_name_yet(
    tmp_path: Path, table: Callable[..., str], fake: Callable[..., FakeXl]
) -> None:
    other = row("db01", 8, uuid="11111111-1111-4111-8111-111111111111")
    calls = fake(table(row("(null)", 9, "--p---"), other))
    calls.fails["create"] = refusal("create", returncode=None)
    with pytest.raises(CommandError):
        xl.create(WEB, "data", Places(tmp_path))
    assert calls.called[1:] == [("destroy", "9")]


def test_after_a_refusal_nothing_is_destroyed_since_xl_clears_up_itself(
    tmp_path: Path, table: Callable[..., str], fake: Callable[..., FakeXl]
) -> None:
    calls = fake(table(row("web01", 9)))
    calls.fails["create"] = refusal("create", returncode=3)
    with pytest.raises(CommandError):
        xl.create(WEB, "data", Places(tmp_path))
    assert [call[0] for call in calls.called] == ["create"]


def test_a_guest_that_does_as_asked_is_off(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    on = table(row("web01", 3))
    calls = fake(on, on, table(row("web01", 3, "---s--", "0")))
    assert xl.shutdown(parse_xl_list(on)[1], 60)
    assert calls.called == [("shutdown", "3")]


def test_a_guest_that_is_gone_is_off(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    calls = fake(table())
    assert xl.shutdown(parse_xl_list(table(row("web01", 3)))[1], 60)
    assert calls.called == []


def test_a_guest_that_goes_on_is_not_off(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    on = table(row("web01", 3))
    fake(on)
    assert not xl.shutdown(parse_xl_list(on)[1], 0)


def test_a_guest_that_does_not_listen_yet_is_asked_again(
    table: Callable[..., str], fake: Callable[..., FakeXl]
) -> None:
    on = table(row("web01", 3))
    calls = fake(on, on, on, table())
    calls.fails["shutdown"] = refusal("shutdown")
    assert xl.shutdown(parse_xl_list(on)[1], 60)
    assert calls.called == [("shutdown", "3")] * 3


def test_a_dying_guest_is_waited_for_and_not_asked(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    dying = table(row("web01", 3, "-----d"))
    calls = fake(dying, table())
    assert xl.shutdown(parse_xl_list(dying)[1], 60)
    assert calls.called == []


def test_what_is_gone_by_itself_is_destroyed(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    fake(table()).fails["destroy"] = refusal("destroy")
    xl.destroy(3)


def test_what_is_still_there_is_not(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    fake(table(row("web01", 3))).fails["destroy"] = refusal("destroy")
    with pytest.raises(CommandError):
        xl.destroy(3)


def test_a_migration_is_bounded_at_its_transport_so_that_xl_can_resume_the_guest(
    table: Callable[..., str], fake: Callable[..., FakeXl]
) -> None:
    calls = fake(table(row("42", 3)))
    xl.migrate("42", "xen2", limit=600)
    ((verb, stay, s, transport, domid, peer),) = calls.called
    assert (verb, stay, s, domid, peer) == ("migrate", "-e", "-s", "3", "xen2")
    assert transport.startswith("timeout --foreground 600 ssh -o BatchMode=yes -o StrictHostKeyChecking=yes")
    assert calls.timeouts[-1] > 600


def test_a_guest_is_named_to_xl_by_its_number(table: Callable[..., str], fake: Callable[..., FakeXl]) -> None:
    fake(table(row("42", 3)))
    assert xl.console("42") == ("xl", "console", "3")


@pytest.mark.parametrize("verb", [xl.console, lambda name: xl.migrate(name, "xen2")])
def test_a_guest_that_is_not_here_has_no_console_and_does_not_migrate(
    table: Callable[..., str], fake: Callable[..., FakeXl], verb: Callable[[str], Any]
) -> None:
    fake(table(row("web01--migratedaway", 3)))
    with pytest.raises(GuestError):
        verb("web01")


def test_no_answer_is_not_no_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(argv: Sequence[str], **_: object) -> Output:
        raise refusal("list", stderr="xc: error: Could not obtain handle on privileged command interface\n")

    monkeypatch.setattr(xl, "run", silent)
    with pytest.raises(CommandError) as caught:
        xl.domains()
    assert caught.value.stderr == "Could not obtain handle on privileged command interface"


def test_an_error_of_xl_is_cut_to_what_tells_why() -> None:
    stderr = """\
Parsing config from /run/xenpair/guests/web01.cfg
libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/vif-bridge online [1234] exited with error status 1
libxl: error: libxl_device.c:1322:device_hotplug_child_death_cb: script: Could not find bridge device xenbr9
libxl: error: libxl_create.c:1911:domcreate_attach_devices: Domain 5:unable to add vif devices
libxl: error: libxl_domain.c:1185:libxl__destroy_domid: Domain 5:Non-existant domain
libxl: error: libxl_domain.c:1139:domain_destroy_callback: Domain 5:Unable to destroy guest
libxl: error: libxl_domain.c:1066:domain_destroy_cb: Domain 5:Destruction of domain failed
"""  # noqa: E501
    assert xl.last_words(stderr).splitlines() == [
        "/etc/xen/scripts/vif-bridge online [1234] exited with error status 1",
        "script: Could not find bridge device xenbr9",
        "Domain 5:unable to add vif devices",
    ]


def test_an_error_of_a_migration_is_cut_too() -> None:
    stderr = """\
migration target: Ready to receive domain.
Saving to migration stream new xl format (info 0x3/0x0/1093)
Loading new save file <incoming migration stream> (new xl fmt info 0x3/0x0/1093)
 Savefile contains xl domain config in JSON format
xc: info: Saving domain 2, type x86 PV
xc: error: Failed to enable logdirty (95 = Operation not supported): Internal error
migration sender: libxl_domain_suspend failed (rc=-3)
Migration failed, resuming at sender.
"""
    assert xl.last_words(stderr).splitlines() == [
        "Failed to enable logdirty (95 = Operation not supported): Internal error",
        "migration sender: libxl_domain_suspend failed (rc=-3)",
        "Migration failed, resuming at sender.",
    ]


def test_where_all_is_noise_the_noise_is_told() -> None:
    stderr = "Parsing config from x\nlibxl: error: libxl_domain.c:1066:domain_destroy_cb: Domain 5:Destruction failed\n"
    assert xl.last_words(stderr).splitlines() == ["Parsing config from x", "Domain 5:Destruction failed"]
    assert xl.last_words("") == ""
