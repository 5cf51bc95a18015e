"""First boot's news for the server that has installed the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.door import write_file
from firstboot import news as news_module
from firstboot import observe
from firstboot.news import News
from firstboot.places import Places
from firstboot.report import Reporter
from tests.unit.install_site import Site, make_certificate, serving

STEPS = ("seed", "identity", "join")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setattr(observe, "nics", lambda: {"eth0": "52:54:00:13:20:01"})
    return Places(tmp_path / "root")


@pytest.fixture
def site(places: Places, tmp_path: Path, real_programs: None) -> Iterator[Site]:
    site = Site(answers={"/report": lambda _: (204, {})})
    pin = make_certificate(tmp_path / "key.pem")
    with serving(site, certificate=tmp_path / "key.pem") as port:
        record = {"server": f"https://127.0.0.1:{port}", "pin": pin, "ticket": "t1"}
        write_file(places.reporting, json.dumps(record), mode=0o600)
        yield site


def played(places: Places) -> None:
    news = News(places)
    reporter = Reporter(places.progress, STEPS, news.tell)
    reporter.begin("join")
    reporter.waiting("no peer")
    reporter.done("join")
    write_file(places.formed, "xen1\n")
    reporter.formed()
    news.close()


def test_the_server_hears_that_the_pair_is_formed_and_then_no_more(site: Site, places: Places) -> None:
    played(places)
    last = site.heard[-1]
    assert (last["ticket"], last["machine"], last["phase"]) == ("t1", "52:54:00:13:20:01", "firstboot")
    assert (last["step"], last["state"], last["log"][-1]) == ("formed", "done", "xenpair: formed")
    assert not places.reporting.exists()


def test_what_first_boot_failed_on_is_told_and_told_again_at_the_next_try(site: Site, places: Places) -> None:
    news = News(places)
    reporter = Reporter(places.progress, STEPS, news.tell)
    reporter.begin("join")
    reporter.failed("the peer is a stranger\n  look at it")
    news.close()
    last = site.heard[-1]
    assert (last["step"], last["state"], last["text"]) == ("join", "failed", "the peer is a stranger\n  look at it")
    assert places.reporting.exists()


def test_a_server_that_is_gone_keeps_nobody(
    site: Site, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news_module, "LAST_WORD", 0.1)
    site.statuses = [503] * 100
    played(places)
    assert not places.reporting.exists()


@pytest.mark.parametrize("content", [None, "torn", "[]", "{}"])
def test_without_a_server_nothing_is_told_and_all_goes_on(places: Places, content: str | None) -> None:
    if content is not None:
        write_file(places.reporting, content)
    played(places)
    assert places.progress.exists()
