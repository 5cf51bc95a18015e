"""The web page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.unit.serving_rig import OTHER1, XEN1, Client, options, serving, write_config

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
XEN2 = {"eth0": "52:54:00:13:20:02", "eth1": "52:54:00:10:32:02"}
OTHER2 = {"eth0": "52:54:00:13:30:02", "eth1": "52:54:00:10:33:02"}

pytestmark = pytest.mark.usefixtures("real_programs")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    configs = write_config(tmp_path / "config"), write_config(tmp_path / "other", other=True)
    with serving(options(tmp_path, *configs)) as running:
        yield running


@pytest.fixture
def page(browser: Browser, client: Client) -> Iterator[Page]:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(f"http://{client.server.page}/")
    expect(tab.locator("#connection")).to_have_text("connected")
    yield tab
    tab.close()


def installer(client: Client, nics: dict[str, str], step: str, state: str = "running", **other: object) -> None:
    """A machine says hello, and then what it is at."""
    ticket = client.hello(nics, serial="SN-" + nics["eth0"][-5:]).json["ticket"]
    assert client.report(machine=nics["eth0"], ticket=ticket, step=step, state=state, **other).status == 204


def first_boot(client: Client, nics: dict[str, str], step: str, state: str = "running", **other: object) -> None:
    """A machine is installed and boots."""
    ticket = client.hello(nics).json["ticket"]
    client.secure("POST", "/secrets", {"ticket": ticket})
    said = {"machine": nics["eth0"], "ticket": ticket, "phase": "firstboot", "step": step, "state": state}
    assert client.report(**said, **other).status == 204


def card(page: Page, cluster: str, node: str) -> Locator:
    """Of one node."""
    heading = page.get_by_role("heading", name=node, exact=True)
    return page.get_by_role("region", name=f"Cluster {cluster}").get_by_role("listitem").filter(has=heading)


def all_states(client: Client) -> None:
    """Four nodes and a stranger, each at something else."""
    installer(client, XEN1, "write", percent=42, text="120M of 290M, 35M/s, 5 s left")
    log = ["disk: /dev/sda 480G SN S3Z1 fits", "disk: /dev/sdb 480G SN S3Z2 fits", "disk: two disks fit the rule"]
    text = "two disks fit storage.system\n  give disks.system.serial of xen2: S3Z1 or S3Z2"
    installer(client, XEN2, "disk", "failed", text=text, log=log)
    first_boot(client, OTHER1, "join", "waiting", text="waits for xen2 on the cluster link")
    first_boot(client, OTHER2, "", "done")
    client.hello({"eno1": "52:54:00:77:77:77"}, serial="SN-77", uuid="4c4c4544-0042-3510-8051-c2c04f4a4d32")


def test_every_state_is_shown_as_it_changes(page: Page, client: Client) -> None:
    one = card(page, "xenpair", "xen1")
    expect(one.locator(".badge")).to_have_text("not seen yet")
    client.get("/boot.ipxe?mac=52-54-00-10-32-01")
    expect(one.locator(".badge")).to_have_text("seen")
    expect(page.locator("#announcements")).to_contain_text("xen1: seen")
    all_states(client)
    expect(one.locator(".badge")).to_have_text("writing")
    expect(one.get_by_role("progressbar", name="Writing xen1")).to_have_js_property("value", 42)
    expect(one.locator("[aria-current=step]")).to_have_text("writing")
    two = card(page, "xenpair", "xen2")
    expect(two.locator(".badge")).to_have_text("failed")
    expect(two.locator(".text")).to_contain_text("two disks fit storage.system")
    expect(two.locator("pre")).to_be_visible()
    expect(two.locator("pre")).to_contain_text("S3Z2 fits")
    expect(card(page, "other", "xen1").locator(".badge")).to_have_text("first boot, waiting")
    expect(card(page, "other", "xen2").locator(".badge")).to_have_text("formed")
    expect(page.locator("#formed")).to_have_text("1 of 4")
    stranger = page.get_by_role("region", name="Machines that no config names")
    expect(stranger.locator("pre")).to_have_text('match: {mac: "52:54:00:77:77:77"}')


def test_what_machines_say_is_never_markup(page: Page, client: Client) -> None:
    hostile = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    installer(client, XEN1, "disk", "failed", text=hostile, log=[hostile])
    client.hello({"eth0": "52:54:00:77:77:77"}, serial=hostile)
    expect(card(page, "xenpair", "xen1").locator(".text")).to_contain_text(hostile)
    expect(card(page, "xenpair", "xen1").locator("pre")).to_have_text(hostile)
    expect(page.locator("#strangers .text")).to_contain_text(hostile)
    assert page.locator("img, main script").count() == 0
    assert page.title() == "xenpair serve"


def test_nothing_is_loaded_from_elsewhere_and_the_policy_is_strict(page: Page, client: Client) -> None:
    asked, complaints = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    answer = page.reload()
    assert answer is not None
    assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
    expect(page.locator("#connection")).to_have_text("connected")
    assert {re.sub(r"^(http://[^/]+/).*", r"\1", url) for url in asked} == {f"http://{client.server.page}/"}
    assert complaints == []


def test_a_node_is_allowed_again_by_keyboard(page: Page, client: Client) -> None:
    first_boot(client, XEN1, "", "done")
    one = card(page, "xenpair", "xen1")
    button = one.get_by_role("button", name="Allow xen1 to be installed again")
    expect(button).to_be_enabled()
    asked = list[str]()
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    button.focus()
    page.keyboard.press("Enter")
    expect(one.locator(".badge")).to_have_text("not seen yet")
    expect(page.locator("#announcements")).to_have_text(re.compile("xen1"))
    assert asked == ["Let xen1 be installed again, and have its secrets once more?"]
    ticket = client.hello(XEN1).json["ticket"]
    assert client.secure("POST", "/secrets", {"ticket": ticket}).status == 200


def test_the_page_says_that_the_server_is_gone(browser: Browser, tmp_path: Path) -> None:
    tab = browser.new_page()
    with serving(options(tmp_path)) as client:
        tab.goto(f"http://{client.server.page}/")
        expect(tab.locator("#connection")).to_have_text("connected")
    expect(tab.locator("#connection")).to_have_text("gone; trying again")
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_a_phone_and_can_be_read(browser: Browser, client: Client, width: int, scheme: str) -> None:
    all_states(client)
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    tab.goto(f"http://{client.server.page}/")
    expect(tab.locator(".badge").first).to_have_text("writing")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(CONTRASTS) == []
    tab.close()


CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const share = [0.2126, 0.7152, 0.0722];
  const light = (c) => share.reduce((sum, part, i) => sum + part * linear(c[i] / 255), 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("template, noscript, :disabled")) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
"""Texts whose contrast is below 4.5:1 (WCAG 2.2, 1.4.3)."""
