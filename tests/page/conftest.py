"""A browser, and a server with five clusters, one node of which is in each state that there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from config import secrets
from config.loader import load
from tests.unit.serving_rig import Client, options, serving, write_config

STRANGER = "52:54:00:99:99:99"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
]
LOG = [
    "[2/7] identity: done",
    "[3/7] disk: begin",
    "[3/7] disk: failed: no disk fits storage.system (serial system-*)",
]
FAILURE = """no disk fits storage.system (serial system-*)
  there are sda (SAMSUNG MZ7L3240, S6ESNS0W416204, 224G) and sdb (SAMSUNG MZ7L3960, S6ESNS0W512345, 894G)"""


def mac(cluster: int, node: int) -> str:
    """Of the node's card that the config names."""
    return f"52:54:0{cluster}:10:32:0{node}"


def hello(server: Client, card: str) -> str:
    """A known machine's ticket."""
    return str(server.hello({"eth0": card}).json["ticket"])


def say(server: Client, cluster: int, node: int, step: str, state: str = "running", **more: object) -> None:
    """A node that has said hello reports."""
    card = mac(cluster, node)
    answer = server.report(ticket=hello(server, card), machine=card, step=step, state=state, **more)
    assert answer.status == 204


def rack(directory: Path, number: int) -> Path:
    """The config of one of the clusters."""
    path = write_config(directory)
    text = path.read_text().replace("name: xenpair", f"name: rack{number}")
    path.write_text(text.replace("52:54:00:1", f"52:54:0{number}:1"))
    secrets.ensure(load(path).cluster, directory / "secrets")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Client]:
    """Each stage is shown by one node; one has failed, one waits, and a machine is unknown."""
    configs = [rack(tmp_path / f"rack{number}", number) for number in range(1, 6)]
    with serving(options(tmp_path, *configs)) as running:
        say(running, 1, 1, "formed", "done", phase="firstboot")
        say(running, 1, 2, "drbd", phase="firstboot")
        say(running, 2, 1, "write", text="42% 120M of 290M, 35M/s, 5 s left", percent=42)
        assert running.secure("POST", "/secrets", {"ticket": hello(running, mac(2, 2))}).status == 200
        say(running, 2, 2, "boot", "done", text="installed")
        say(running, 3, 1, "join", "waiting", text="the other node has not answered yet", phase="firstboot")
        say(running, 3, 2, "disk", "failed", text=FAILURE, log=LOG)
        running.get(f"/boot.ipxe?mac={mac(4, 1)}")
        running.hello({"eth0": mac(5, 1)})
        say(running, 5, 2, "network", phase="firstboot")
        running.hello({"eth0": STRANGER}, serial="CZJ1234567", uuid="4c4c4544-0042-3510-8052-b7c04f4d5931")
        yield running


@pytest.fixture
def page(browser: Browser, server: Client) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.goto(f"http://{server.server.page}/")
    page.get_by_text("connected").wait_for()
    yield page
    context.close()
