"""The pages in a real browser: from a number to its frames and back by keys, text that stays text, phones, news."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import NOON, append, write_chain
from imgpipeline_tests.web.viewer.conftest import ViewedStore, raise_alert
from imgpipeline_tests.web.viewer.viewing import viewing

pytestmark = pytest.mark.medium

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def page(browser: Browser, viewed: ViewedStore) -> Iterator[Page]:
    """A page that fails its test when it logs a problem, such as a script that the policy forbids."""
    with browser.new_context(base_url=str(viewed.viewer.http.base_url)) as context:
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        yield page
        assert [text for text in said if "500 (Internal Server Error)" not in text] == []


def test_keys_lead_from_a_count_to_its_frames_and_back(page, viewed):
    page.goto(f"/?day={DAY}")
    page.get_by_role("link", name="car from 07 to 08: 4").click()
    expect(page.get_by_role("status")).to_contain_text("4 frames with 4 car")
    expect(page.get_by_role("status")).to_contain_text("equal to the stored count, 4")
    address, cards = page.url, page.locator(".card")
    expect(cards).to_have_count(4)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/frames/{DAY}/*")
    expect(page.locator("#image")).to_be_visible()
    assert page.evaluate("document.getElementById('image').naturalWidth") == 64
    second = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != second)
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(second)
    page.keyboard.press("u")
    page.wait_for_url(address)


def test_boxes_lie_on_the_image_and_can_be_hidden(page, viewed):
    one = next(one for one in viewed.site.frames if len(one.detections) == 3)
    page.goto(f"/frames/{one.day}/{one.frame_id}")
    image, box = page.locator("#image").bounding_box(), page.locator(".large rect").first.bounding_box()
    assert image is not None
    assert box is not None
    scale = image["width"] / 64
    assert box["x"] - image["x"] == pytest.approx(10 * scale, abs=4)
    assert box["y"] - image["y"] == pytest.approx(12 * scale, abs=4)
    assert box["width"] == pytest.approx(30 * scale, abs=4)
    page.get_by_role("checkbox", name="dog").uncheck()
    expect(page.locator('.large g[data-toggle="label dog"]')).to_be_hidden()
    expect(page.locator('.large g[data-toggle="label car"]')).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("b")
    expect(page.locator(".large .boxes")).to_be_hidden()


def test_escape_and_a_click_elsewhere_close_the_menu(page, viewed):
    page.goto("/search?q=car")
    menu, button = page.locator(".menu div"), page.locator(".menu summary")
    button.click()
    expect(menu).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(button).to_be_focused()
    button.click()
    expect(menu).to_be_visible()
    page.locator("h1").click()
    expect(menu).to_be_hidden()
    button.click()
    menu.get_by_role("link", name="Objects").click()
    page.wait_for_url("**/objects")


def test_pages_fit_a_phone(page, viewed):
    page.set_viewport_size(PHONE)
    one = viewed.site.frames[0]
    for path in (
        f"/?day={DAY}",
        f"/review?day={DAY}",
        f"/frames/{DAY}/{one.frame_id}",
        f"/explain?day={DAY}&label=car",
        f"/dashboard?start={DAY}",
        "/live",
        "/search?q=car",
        "/alerts",
        "/alerts/1",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


def test_the_key_that_marks_frames_does_nothing_in_other_grids(page, viewed):
    page.goto(f"/search?q=day:{DAY}")
    page.locator(".card").first.focus()
    page.keyboard.press("r")
    page.wait_for_timeout(100)
    expect(page.locator(".card.reviewed")).to_have_count(0)


def test_a_mark_that_is_refused_is_explained_in_the_grid(browser, folder):
    key = KeyFile(folder.api_keys_file).add((), NOON, scopes=(Scope.READ,), name="anna")
    write_chain(open_store(folder), [seen(0, ["car"])])
    with logged_in(browser, folder, key) as page:
        page.goto("/review")
        page.locator(".card").focus()
        page.keyboard.press("r")
        expect(page.locator("#mark-problem")).to_have_text(
            "POST /api/v1/reviewed: this needs an API key with the scope acknowledge."
        )


@contextmanager
def logged_in(browser: Browser, settings: Settings, key: str) -> Iterator[Page]:
    """Open a page of a new viewer, with a key as the password."""
    login: Any = {"username": "anna", "password": key}
    with (
        viewing(settings) as viewer,
        browser.new_context(base_url=str(viewer.http.base_url), http_credentials=login) as context,
    ):
        yield context.new_page()


def test_an_alert_is_acknowledged_with_a_key_as_password_and_a_note_that_stays_text(browser, folder):
    both = (Scope.READ, Scope.ACKNOWLEDGE)
    key = KeyFile(folder.api_keys_file).add((), NOON, scopes=both, name="<b>anna</b>")
    raise_alert(open_store(folder))
    with logged_in(browser, folder, key) as page:
        page.goto("/alerts/1")
        page.get_by_label("Note").fill("<img src=x onerror=document.title=1>")
        page.get_by_role("button", name="Acknowledge").click()
        page.wait_for_url("**/alerts/1")
        expect(page.locator("dl.facts")).to_contain_text("by <b>anna</b>, ")
        expect(page.locator("dl.facts")).to_contain_text(": <img src=x onerror=document.title=1>")
        expect(page).to_have_title("Alert 1 · imgpipeline")


def test_a_live_page_shows_a_new_frame(browser, folder):
    now = datetime.now(UTC)
    chain = write_chain(open_store(folder), [seen(0, ["car"], source="gate", timestamp=now)])
    new = seen(1, ["dog", "dog"], source="gate", timestamp=now + timedelta(seconds=1))
    with viewing(folder) as viewer, browser.new_context(base_url=str(viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto("/live")
        expect(page.locator(".live .card")).to_contain_text("1 detection")
        append(chain, [new])
        expect(page.locator(".live .card")).to_contain_text("2 detections", timeout=60_000)
        expect(page.locator(".live rect[x]")).to_have_count(2)
        expect(page.locator("[data-age-s]")).to_contain_text("ago")
