"""The web page of `invoke serve` with a node in each state, in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page.conftest import FAILURE, LOG, STRANGER, say
from tests.unit.serving_rig import Client

BADGES = {
    "rack1/xen1": "formed",
    "rack1/xen2": "joined",
    "rack2/xen1": "writing",
    "rack2/xen2": "installed",
    "rack3/xen1": "first boot, waiting",
    "rack3/xen2": "failed",
    "rack4/xen1": "seen",
    "rack4/xen2": "not seen yet",
    "rack5/xen1": "chosen",
    "rack5/xen2": "first boot",
}
PHONE = {"width": 390, "height": 844}
TOUCH = 44
"""CSS pixels that a finger hits (WCAG 2.2, 2.5.5)."""


def card(page: Page, name: str) -> Locator:
    cluster, node = name.split("/")
    region = page.get_by_role("region", name=f"Cluster {cluster}")
    return region.get_by_role("listitem").filter(has=page.get_by_role("heading", name=node, exact=True))


def test_every_state_is_shown(page: Page) -> None:
    for name, badge in BADGES.items():
        expect(card(page, name).locator(".badge")).to_have_text(badge)
    expect(page.locator("#formed")).to_have_text("1 of 10")
    expect(page.locator("#window")).to_contain_text("left")


def test_writing_is_shown_with_its_percentage(page: Page, server: Client) -> None:
    bar = card(page, "rack2/xen1").get_by_role("progressbar", name="Writing xen1")
    assert bar.evaluate("bar => bar.value") == 42
    say(server, 2, 1, "write", text="77%", percent=77)
    expect(card(page, "rack2/xen1").locator("output")).to_have_text("77 %")
    assert bar.evaluate("bar => bar.value") == 77


def test_a_failure_is_shown_with_its_hint_and_the_logs_last_lines(page: Page) -> None:
    failed = card(page, "rack3/xen2")
    expect(failed.locator(".text")).to_have_text(f"disk: {FAILURE}")
    expect(failed.get_by_text(LOG[-1])).to_be_visible()


def test_an_unknown_machine_is_shown_as_it_goes_into_the_config(page: Page) -> None:
    strangers = page.get_by_role("region", name="Machines that no config names")
    expect(strangers).to_contain_text("CZJ1234567")
    expect(strangers.locator("pre")).to_have_text(f'match: {{mac: "{STRANGER}"}}')


def test_what_happens_shows_without_a_reload_and_is_announced(page: Page, server: Client) -> None:
    say(server, 4, 2, "write", percent=1)
    expect(card(page, "rack4/xen2").locator(".badge")).to_have_text("writing")
    expect(page.locator("[aria-live=polite]")).to_contain_text("rack4/xen2: writing")
    expect(page.get_by_role("list", name="What happened")).to_contain_text("rack4/xen2: writing")


def test_what_a_machine_says_is_never_markup(page: Page, server: Client) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    say(server, 4, 2, "disk", "failed", text=evil, log=[evil])
    expect(card(page, "rack4/xen2").locator(".text")).to_have_text(f"disk: {evil}")
    expect(card(page, "rack4/xen2").locator("pre")).to_have_text(evil)
    assert page.locator("main img, main script").count() == 0
    assert page.title() == "xenpair serve"


def test_a_node_is_allowed_again_by_keyboard_alone(page: Page) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    for _ in range(40):
        page.keyboard.press("Tab")
        if (
            page.evaluate("document.activeElement.getAttribute('aria-label')")
            == "Allow rack2/xen2 to be installed again"
        ):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(card(page, "rack2/xen2").locator(".badge")).to_have_text("not seen yet")
    # The button is gone; who goes on by keyboard is still at that node.
    expect(card(page, "rack2/xen2").get_by_role("heading")).to_be_focused()


def test_a_second_thought_leaves_a_node_as_it_is(page: Page) -> None:
    page.on("dialog", lambda dialog: dialog.dismiss())
    card(page, "rack2/xen2").get_by_role("button").click()
    expect(card(page, "rack2/xen2").locator(".badge")).to_have_text("installed")


def test_the_first_tab_stop_skips_to_the_nodes(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the nodes")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#clusters")).to_be_focused()


def test_a_screen_reader_finds_landmarks_names_and_the_present_stage(page: Page) -> None:
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("region")).to_have_count(7)
    stages = card(page, "rack1/xen2").get_by_role("list", name="Stages")
    expect(stages.locator("[aria-current=step]")).to_have_text("joined")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, progress, [tabindex=\"0\"]')].filter(e => e.offsetParent &&"
        " !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim())).length"
    )
    assert unnamed == 0
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    browser: Browser, server: Client, tmp_path: Path, scheme: str
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, has_touch=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"http://{server.server.page}/")
    expect(card(page, "rack3/xen2").locator(".badge")).to_have_text("failed")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    button = card(page, "rack2/xen2").get_by_role("button").bounding_box()
    assert button is not None
    assert button["height"] >= TOUCH
    page.screenshot(path=tmp_path / f"phone-{scheme}.png", full_page=True)
    context.close()
